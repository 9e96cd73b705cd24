import { pauseEvery } from '../../engine/pause-every.ts'
import { ChoraleError } from '../../errors.ts'
import { Trap } from './arithmetic.ts'
import type { Value } from './call-stack.ts'
import { GasMeter } from './gas-meter.ts'
import { LinearMemory } from './linear-memory.ts'
import { Machine, type MachineState } from './machine.ts'
import type { PolicyModule } from './module.ts'

/**
 * Runs a policy program instruction by instruction. Every instruction costs 1 gas, a call 1 for each local, a page of
 * memory `PAGE_GAS`: the same program on the same input ends after the same gas everywhere, or traps everywhere.
 *
 * It runs on the thread of the network, in slices of `SLICE_GAS`: between them heartbeats and sessions are heard.
 */
export interface PolicyInstance {
  /**
   * Calls an exported function of i32s that gives one i32; one call at a time.
   * @throws `ledger` when it traps or gas runs out, `cancelled` on the signal: nothing may be called after that.
   */
  call(name: string, ...parameters: number[]): Promise<number>
  /** @throws `ledger` outside of memory. */
  read(offset: number, length: number): Uint8Array
  /** @throws `ledger` outside of memory. */
  write(offset: number, bytes: Uint8Array): void
  readonly gasUsed: number
}

/** What the ledger allows a program. */
export interface PolicyLimits {
  readonly gas: number
  /** Of memory, 64 KiB each. */
  readonly pages: number
}

/** How a program runs; none of it changes what comes out. */
export interface PolicyRun {
  /** Ends the program at the next pause. */
  readonly signal?: AbortSignal
  /** Waited for after each slice; default: a turn of the event loop every `PAUSE_MS`. */
  readonly pause?: () => Promise<void>
  /** Gas of a slice; default `SLICE_GAS`. */
  readonly sliceGas?: number
}

/**
 * Gas between two looks at the clock: less than 2 ms of the slowest instructions, and with `PAUSE_MS` less than 50 ms
 * on a machine twenty times as slow.
 */
export const SLICE_GAS = 16_384
/** A turn of the event loop takes up to 4 ms of waiting in browsers: not after every slice. */
const PAUSE_MS = 10

/**
 * A fresh instance: memory, globals, gas; its start function has run.
 * @throws `ledger` when it wants more memory than `limits` allow, or its start fails; `cancelled` on the signal.
 */
export async function instantiate(
  module: PolicyModule,
  limits: PolicyLimits,
  { signal, pause = pauseEvery(PAUSE_MS), sliceGas = SLICE_GAS }: PolicyRun = {},
): Promise<PolicyInstance> {
  const maxPages = Math.min(module.maxPages, limits.pages)
  if (module.minPages > maxPages) {
    throw failed(`it begins with ${module.minPages} pages of memory (at most ${maxPages})`)
  }
  const memory = new LinearMemory(module.minPages, maxPages)
  const gas = new GasMeter(limits.gas)
  const state: MachineState = { module, memory, globals: [...module.globals], gas }
  for (const { offset, bytes } of module.data) trapped(() => memory.write(offset, bytes))

  const run = async (index: number, parameters: readonly number[]): Promise<Value | undefined> => {
    const machine = trapped(() => new Machine(state, index, parameters))
    for (;;) {
      if (signal?.aborted === true) throw new ChoraleError('cancelled', 'the policy program was stopped')
      if (trapped(() => machine.resume(gas.left - sliceGas))) return machine.result
      await pause()
    }
  }

  if (module.start !== undefined) await run(module.start, [])
  return {
    async call(name, ...parameters) {
      const index = module.exports.get(name)
      const code = index === undefined ? undefined : module.functions[index]
      if (
        index === undefined ||
        code === undefined ||
        code.parameters !== parameters.length ||
        code.results !== 1
      ) {
        throw failed(`it exports no function ${name} of ${parameters.length} integers`)
      }
      const result = await run(index, parameters)
      if (typeof result !== 'number') throw failed(`its function ${name} gives no 32-bit integer`)
      return result
    },
    read: (offset, length) => trapped(() => memory.read(offset, length)),
    write: (offset, bytes) => trapped(() => memory.write(offset, bytes)),
    get gasUsed() {
      return limits.gas - Math.max(0, gas.left)
    },
  }
}

function trapped<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof Trap) throw failed(`it stopped: ${error.message}`)
    throw error
  }
}

function failed(reason: string): ChoraleError {
  return new ChoraleError('ledger', `policy program failed: ${reason}`, { field: 'policy' })
}
