import { ChoraleError, errorMessage } from '../../errors.ts'
import { subnetEpochOf } from '../formulas.ts'
import type {
  Ledger,
  LedgerBlock,
  LedgerCall,
  LedgerEvent,
  LedgerSigner,
  LedgerValue,
  Submitted,
} from '../ledger.ts'

/** One step of the life-cycle script and what came of it. */
export interface ConformanceStep {
  readonly name: string
  readonly ok: boolean
  /** `Network.SubnetRegistered`, … of this step's calls and of blocks it judged. */
  readonly events: readonly string[]
  /** What was compared; in a failed step what differs. */
  readonly detail: string
}

export interface ConformanceReport {
  readonly chain: string
  readonly steps: readonly ConformanceStep[]
  readonly ok: boolean
}

/** What the script needs besides the ledger. */
export interface ConformanceOptions {
  /** Pays for everything: about 1,700 tokens besides the least delegate stake; on a dev chain a dev account. */
  readonly funder: LedgerSigner
  /** A fresh account each call, of the chain's kind. */
  readonly newAccount: () => LedgerSigner
  /** Makes blocks now, where the node can be told to. */
  readonly makeBlocks?: ((count: number) => Promise<void>) | undefined
  /** Bytes nobody chose, for names that no earlier run took. */
  readonly random: (length: number) => Uint8Array
  readonly onStep?: (step: ConformanceStep) => void
  readonly signal?: AbortSignal
  /** Longest wait for one block the node makes by itself. Default 120 s. */
  readonly blockTimeoutMs?: number
}

const BLOCK_TIMEOUT_MS = 120_000
const POLL_MS = 20
/** Blocks asked for at once. */
const MAKE_AT_ONCE = 50
/** Blocks whose events are kept to be judged: some epochs. */
const KEPT_BLOCKS = 4096

/** Collects what a step compares. */
export class Checks {
  readonly events: string[] = []
  readonly said: string[] = []
  readonly failures: string[] = []

  /** Both must be the same. */
  equal(what: string, actual: unknown, expected: unknown): void {
    const [a, b] = [shown(actual), shown(expected)]
    if (a === b) this.said.push(`${what} ${a}`)
    else this.failures.push(`${what} is ${a}, by the rules ${b}`)
  }

  /** Must hold. */
  that(what: string, holds: boolean): void {
    if (holds) this.said.push(what)
    else this.failures.push(`not so: ${what}`)
  }

  saw(events: readonly LedgerEvent[]): void {
    for (const { pallet, name } of events) if (pallet === 'Network') this.events.push(`${pallet}.${name}`)
  }
}

/** The script's hands: sends, waits, remembers blocks. */
export class Script {
  readonly ledger: Ledger
  readonly options: ConformanceOptions
  readonly steps: ConformanceStep[] = []
  readonly #blocks = new Map<number, LedgerBlock>()
  readonly #stop: () => void

  constructor(ledger: Ledger, options: ConformanceOptions) {
    this.ledger = ledger
    this.options = options
    this.#stop = ledger.watch((block) => {
      this.#blocks.set(block.number, block)
      for (const old of this.#blocks.keys()) if (this.#blocks.size > KEPT_BLOCKS) this.#blocks.delete(old)
    })
  }

  close(): void {
    this.#stop()
  }

  /** Runs a step. What it throws, and what differs, makes it fail. @returns whether it went through. */
  async step(name: string, run: (checks: Checks) => Promise<void>): Promise<boolean> {
    const checks = new Checks()
    let broke: string | undefined
    try {
      await run(checks)
    } catch (error) {
      if (error instanceof ChoraleError && error.code === 'cancelled') throw error
      broke = errorMessage(error)
    }
    const wrong = [...checks.failures, ...(broke === undefined ? [] : [broke])]
    const step: ConformanceStep = {
      name,
      ok: wrong.length === 0,
      events: [...new Set(checks.events)],
      detail: (wrong.length === 0 ? checks.said : wrong).join('; '),
    }
    this.steps.push(step)
    this.options.onStep?.(step)
    return broke === undefined
  }

  /** Sends a call and waits for its block. */
  async send(call: LedgerCall, signer: LedgerSigner, checks?: Checks): Promise<Submitted> {
    const { signal } = this.options
    const sent = this.ledger.submit(call, signer, signal === undefined ? {} : { signal })
    const done = await this.#nudged(sent)
    checks?.saw(done.events)
    return done
  }

  /** A node that makes blocks only when told is told until the call is in one. */
  async #nudged<T>(sent: Promise<T>): Promise<T> {
    const { makeBlocks } = this.options
    if (makeBlocks === undefined) return sent
    let done = false
    const end = sent.finally(() => (done = true))
    end.catch(() => undefined)
    // oxlint-disable-next-line no-unmodified-loop-condition -- the call's end sets it during the pauses
    for (let waited = 0; !done; waited += POLL_MS) {
      await Promise.race([end.catch(() => undefined), pause(POLL_MS)])
      if (!done && waited >= NUDGE_AFTER_MS) {
        waited = 0
        await makeBlocks(1)
      }
    }
    return end
  }

  /** Sends a call that must be refused with this error. */
  async refused(
    what: string,
    call: LedgerCall,
    signer: LedgerSigner,
    errors: readonly string[],
    checks: Checks,
  ): Promise<void> {
    try {
      await this.send(call, signer)
      checks.that(`${what} is refused`, false)
    } catch (error) {
      const message = errorMessage(error)
      if (!(error instanceof ChoraleError) || error.code !== 'ledger') throw error
      checks.that(
        `${what} is refused as ${errors.join(' or ')} (${message.split(':')[0] ?? ''})`,
        errors.some((name) => message.includes(name)),
      )
    }
  }

  /** Waits until block `number` is there; makes blocks where that can be asked for. @throws `timeout`. */
  async until(number: number): Promise<LedgerBlock> {
    const { makeBlocks, signal, blockTimeoutMs = BLOCK_TIMEOUT_MS } = this.options
    let deadline = Date.now() + blockTimeoutMs
    let last = -1
    for (;;) {
      if (signal?.aborted === true) throw new ChoraleError('cancelled', 'the script was stopped')
      const block = this.#blocks.get(number)
      if (block !== undefined) return block
      const head = (await this.ledger.head()).number
      if (head !== last) deadline = Date.now() + blockTimeoutMs
      last = head
      if (Date.now() > deadline)
        throw new ChoraleError('timeout', `no block for ${blockTimeoutMs} ms; ${number} was waited for`)
      if (head < number && makeBlocks !== undefined) await makeBlocks(Math.min(MAKE_AT_ONCE, number - head))
      else await pause(POLL_MS)
    }
  }

  /** A block that was seen. */
  block(number: number): LedgerBlock {
    const block = this.#blocks.get(number)
    if (block === undefined) throw new ChoraleError('internal', `block ${number} was not seen`)
    return block
  }

  async head(): Promise<number> {
    return (await this.ledger.head()).number
  }

  /** The first block after `after` in which a subnet's epoch begins. */
  nextSlot(after: number, slot: number): number {
    const { epochBlocks } = this.ledger.info
    const { epoch } = subnetEpochOf(after, slot, epochBlocks)
    return (epoch + 1) * epochBlocks + slot
  }

  /** A storage entry that must be an integer, as bigint. */
  async integer(
    item: string,
    keys: readonly LedgerValue[],
    at?: string,
    pallet = 'Network',
  ): Promise<bigint> {
    const value = await this.ledger.storage(pallet, item, keys, at)
    if (typeof value === 'number') return BigInt(value)
    if (typeof value === 'bigint') return value
    throw new ChoraleError('ledger', `${pallet}.${item} is ${shown(value)}: an integer was expected`)
  }
}

/** A node in instant mode puts a call into a block within milliseconds; after this long it is told to. */
const NUDGE_AFTER_MS = 400

/** The fee that events of a call tell of; 0 where none was paid. */
export function feeOf(events: readonly LedgerEvent[]): bigint {
  const paid = events.find(
    ({ pallet, name }) => pallet === 'TransactionPayment' && name === 'TransactionFeePaid',
  )
  const fee = paid?.data['actual_fee']
  return typeof fee === 'bigint' ? fee : 0n
}

/** The data of the first event of a name. @throws `ledger` when there is none. */
export function eventOf(events: readonly LedgerEvent[], name: string): Readonly<Record<string, LedgerValue>> {
  const found = events.find((event) => event.pallet === 'Network' && event.name === name)
  if (found === undefined) throw new ChoraleError('ledger', `no event Network.${name}`)
  return found.data
}

/** A field of a struct. */
export function fieldOf(value: LedgerValue, name: string): LedgerValue {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Readonly<Record<string, LedgerValue>>)[name]
    : undefined
}

/** Entries of a map or vector. */
export function listOf(value: LedgerValue): readonly LedgerValue[] {
  return Array.isArray(value) ? (value as readonly LedgerValue[]) : []
}

/** A bigint field; 0n where it is none. */
export function bigOf(value: LedgerValue): bigint {
  return typeof value === 'bigint' ? value : 0n
}

function shown(value: unknown): string {
  if (typeof value === 'string') return value
  return typeof value === 'object'
    ? JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? one.toString() : one))
    : `${value as number | bigint | boolean | undefined}`
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
