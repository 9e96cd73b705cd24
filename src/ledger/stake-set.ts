import { ChoraleError, errorMessage } from '../errors.ts'
import { type Logger, silentLogger } from '../log.ts'
import type { Ledger, LedgerBlock, SubnetNode } from './ledger.ts'
import { createStakeProofs } from './stake-proofs.ts'
import {
  refused,
  STAKE_ACTIONS,
  type StakeRules,
  type StakeVerdict,
  type StakeVerdicts,
  stakeVerdicts,
} from './stake-verdict.ts'
import {
  DEFAULT_SUBNET_PARAMETERS,
  parseSubnetParameters,
  type StakeAction,
  type SubnetParameters,
} from './subnet-parameters.ts'

/** Called when a peer may no longer do what it might before. `lost` names those actions. */
export type RevokedListener = (peerId: string, reason: string, lost: ReadonlySet<StakeAction>) => void

/** Who has stake in a subnet, as of the ledger's newest block; followed live. */
export interface StakeSet {
  readonly subnetId: number
  /** As the ledger says now; they change while this runs. */
  readonly parameters: SubnetParameters
  /** Nodes of the subnet. */
  readonly nodes: readonly SubnetNode[]
  /** Number of the block that `nodes` were read at; undefined before the first reading. */
  readonly block: number | undefined
  /**
   * Whether a peer may do something, from memory: for every message. Everybody is refused when the ledger could not be
   * read for longer than `parameters.graceMs`.
   */
  check(peerId: string, action: StakeAction): StakeVerdict
  /** Like `check`, but asks the ledger about peers that are no node: bootnodes, overwatch nodes. Never rejects. */
  resolve(peerId: string, action: StakeAction): Promise<StakeVerdict>
  /** Watches for peers that lose their admission; returns how to stop. */
  onRevoked(listener: RevokedListener): () => void
  close(): void
}

export interface StakeSetOptions {
  readonly ledger: Ledger
  readonly subnetId: number
  /** Reads the subnet's parameters out of its `misc`; what it throws leaves them as they were. */
  readonly parse?: (misc: string) => SubnetParameters
  readonly log?: Logger
  /** Milliseconds of any clock that never runs back; default `performance.now`. */
  readonly now?: () => number
  /** How long a proof of stake asked for one peer counts (default 60 s), and a refusal (default 5 s). */
  readonly positiveMs?: number
  readonly negativeMs?: number
  /** How often the ledger is asked for its head, to know that it still answers (default 5 s). */
  readonly pulseMs?: number
}

const PULSE_MS = 5_000
const MIN_PULSE_MS = 50
const FIRST_RETRY_MS = 250
const MAX_RETRY_MS = 5_000

/**
 * Reads the subnet's nodes and follows the ledger. Resolves after the first reading, or after it failed: then everybody
 * is refused until one succeeds. Each block with an event of the subnet, each gap and each reorganisation is followed
 * by a new reading at that block; a node that an event removes is out at once.
 */
export async function createStakeSet(options: StakeSetOptions): Promise<StakeSet> {
  const { ledger, subnetId } = options
  const parse = options.parse ?? parseSubnetParameters
  const log = options.log ?? silentLogger
  const now = options.now ?? (() => performance.now())
  const listeners = new Set<RevokedListener>()
  const proofs = createStakeProofs({
    ledger,
    subnetId,
    positiveMs: options.positiveMs ?? 60_000,
    negativeMs: options.negativeMs ?? 5_000,
  })
  let peers: ReadonlyMap<string, StakeVerdicts> = new Map()
  let nodes: readonly SubnetNode[] = []
  let rules: StakeRules = { parameters: DEFAULT_SUBNET_PARAMETERS, minStake: 0n, epoch: 0 }
  let readAt: number | undefined
  /** When the ledger last answered, by `now`. */
  let answeredAt = -Infinity
  /** Since when a reading has been due that did not succeed. */
  let dueSince: number | undefined
  let trouble = 'it was not read yet'
  let lastBlock: Pick<LedgerBlock, 'number' | 'hash'> | undefined
  let reading: Promise<void> | undefined
  /** A block to read at when the present reading is done. */
  let wanted: string | undefined
  let retry: ReturnType<typeof setTimeout> | undefined
  let retryMs = FIRST_RETRY_MS
  const stop = new AbortController()

  const answered = (): void => {
    answeredAt = now()
    // What was wrong before is not why it is silent when it falls silent again.
    if (readAt !== undefined) trouble = 'it does not answer'
  }

  const revoke = (peerId: string, reason: string, lost: ReadonlySet<StakeAction>): void => {
    log.info('a peer lost its admission', { peer: peerId, reason })
    for (const listener of listeners) listener(peerId, reason, lost)
  }

  /** Puts a new picture in place of the old one and tells who lost what. */
  const replace = (fresh: readonly SubnetNode[]): void => {
    const before = peers
    nodes = fresh
    peers = verdictsByPeer(fresh, rules)
    for (const [peerId, old] of before) {
      const verdicts = peers.get(peerId)
      const lost = new Set(STAKE_ACTIONS.filter((action) => old[action].ok && verdicts?.[action].ok !== true))
      if (lost.size === 0) continue
      const [first] = lost
      const verdict = verdicts?.[first!]
      revoke(
        peerId,
        verdict?.ok === false ? verdict.reason : `it is no node of subnet ${subnetId} any more`,
        lost,
      )
    }
  }

  const read = async (at: string): Promise<void> => {
    const [subnet, fresh, head] = await Promise.all([
      ledger.subnet(subnetId, at),
      ledger.nodes(subnetId, at),
      lastBlock?.hash === at ? lastBlock : ledger.head(),
    ])
    if (stop.signal.aborted) return
    answered()
    if (subnet === undefined) {
      trouble = `subnet ${subnetId} is not on the ledger`
      replace([])
      return
    }
    let { parameters } = rules
    try {
      parameters = parse(subnet.misc)
    } catch (error) {
      log.warn('the subnet has unreadable parameters, the last ones count', { reason: errorMessage(error) })
    }
    const { epochBlocks } = ledger.info
    const epoch = epochBlocks > 0 ? Math.floor((head.number - (subnet.slot ?? 0)) / epochBlocks) : 0
    rules = { parameters, minStake: subnet.minStake, epoch }
    readAt = head.number
    replace(fresh)
    proofs.forgetRefusals()
    for (const { peerId, action } of await proofs.refresh(rules, now())) {
      revoke(peerId, `it has no stake in subnet ${subnetId} any more`, new Set([action]))
    }
  }

  /** Reads at the newest block that was asked for; one reading at a time, and again until one succeeds. */
  const readSoon = (at: string): Promise<void> => {
    wanted = at
    dueSince ??= now()
    reading ??= (async () => {
      try {
        while (wanted !== undefined && !stop.signal.aborted) {
          const hash = wanted
          wanted = undefined
          await read(hash)
          if (wanted === undefined) dueSince = undefined
          retryMs = FIRST_RETRY_MS
        }
      } catch (error) {
        trouble = errorMessage(error)
        log.warn('the ledger could not be read', { reason: trouble })
        clearTimeout(retry)
        if (!stop.signal.aborted) retry = setTimeout(() => void pulse(true), retryMs)
        retryMs = Math.min(MAX_RETRY_MS, 2 * retryMs)
      } finally {
        reading = undefined
      }
    })()
    return reading
  }

  /** Asks for the head: whether the ledger answers, and whether a block went by unseen. */
  const pulse = async (reread: boolean): Promise<void> => {
    try {
      if (ledger.status.state === 'wrong-chain') throw new ChoraleError('ledger', ledger.status.reason)
      const head = await ledger.head()
      if (stop.signal.aborted) return
      answered()
      if (reread || readAt === undefined || lastBlock?.hash !== head.hash) await follow(head, true)
    } catch (error) {
      trouble = errorMessage(error)
      if (reread && !stop.signal.aborted) {
        clearTimeout(retry)
        retry = setTimeout(() => void pulse(true), retryMs)
        retryMs = Math.min(MAX_RETRY_MS, 2 * retryMs)
      }
    }
  }

  const follow = async (block: Pick<LedgerBlock, 'number' | 'hash'>, changed: boolean): Promise<void> => {
    lastBlock = { number: block.number, hash: block.hash }
    if (changed || startsEpoch(block.number)) await readSoon(block.hash)
  }

  /** Classes may begin to count with an epoch. */
  const startsEpoch = (block: number): boolean => {
    const { epochBlocks } = ledger.info
    return (
      epochBlocks > 0 &&
      readAt !== undefined &&
      block - readAt >= 1 &&
      nodes.some(({ startEpoch }) => startEpoch > rules.epoch)
    )
  }

  const unwatch = ledger.watch((block) => {
    if (stop.signal.aborted) return
    answered()
    const previous = lastBlock
    for (const { pallet, name, data } of block.events) {
      if (pallet !== 'Network' || name !== 'SubnetNodeRemoved' || data['subnet_id'] !== subnetId) continue
      // Out at once: a reading takes its time, and the event says all there is to know.
      const left = nodes.filter(({ id }) => id !== data['subnet_node_id'])
      if (left.length < nodes.length) replace(left)
    }
    const gap = previous === undefined || block.parentHash !== previous.hash
    void follow(block, gap || block.events.some((event) => concerns(event, subnetId)))
  })
  const unwatchStatus = ledger.watchStatus((status) => {
    if (status.state !== 'reachable') trouble = status.reason
    else void pulse(true)
  })
  let timer: ReturnType<typeof setTimeout> | undefined
  const pulseLater = (): void => {
    // Several times within the grace, or a quiet ledger would look like a dead one.
    const everyMs = Math.min(
      options.pulseMs ?? PULSE_MS,
      Math.max(MIN_PULSE_MS, rules.parameters.graceMs / 3),
    )
    timer = setTimeout(() => {
      void pulse(false)
      if (!stop.signal.aborted) pulseLater()
    }, everyMs)
  }
  await pulse(true)
  pulseLater()

  /** Why nobody is admitted now; undefined when the ledger was read lately enough. */
  const blind = (): StakeVerdict | undefined => {
    const silentMs = now() - (dueSince === undefined ? answeredAt : Math.min(answeredAt, dueSince))
    if (readAt !== undefined && silentMs <= rules.parameters.graceMs) return undefined
    const since = readAt === undefined ? '' : ` for ${Math.round(silentMs / 1000)} s`
    return refused(
      `the ledger could not be read${since} (${trouble}): nobody is admitted until it can`,
      MAX_RETRY_MS,
    )
  }
  const check = (peerId: string, action: StakeAction): StakeVerdict => {
    const verdict = peers.get(peerId)?.[action]
    // The clock is read every time: that is what fails closed.
    if (verdict?.ok === true) return blind() ?? verdict
    return (
      blind() ??
      proofs.known(peerId, action, now()) ??
      verdict ??
      refused(`${peerId} has no stake in subnet ${subnetId}`)
    )
  }

  return {
    subnetId,
    get parameters() {
      return rules.parameters
    },
    get nodes() {
      return nodes
    },
    get block() {
      return readAt
    },
    check,
    resolve: async (peerId, action) => {
      const verdict = check(peerId, action)
      if (verdict.ok || blind() !== undefined || peers.has(peerId)) return verdict
      return await proofs.ask(peerId, action, rules, now())
    },
    onRevoked: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => {
      stop.abort()
      unwatch()
      unwatchStatus()
      clearTimeout(timer)
      clearTimeout(retry)
      listeners.clear()
    },
  }
}

/** Every peer id a node goes by: its own, its bootnode's and its client's. */
function verdictsByPeer(nodes: readonly SubnetNode[], rules: StakeRules): ReadonlyMap<string, StakeVerdicts> {
  const peers = new Map<string, StakeVerdicts>()
  for (const node of nodes) {
    const verdicts = stakeVerdicts(node, rules)
    for (const peerId of [node.peerId, node.bootnodePeerId, node.clientPeerId]) {
      if (peerId !== undefined) peers.set(peerId, verdicts)
    }
  }
  return peers
}

/** Whether an event may change who is admitted: any of the pallet's that is of this subnet, or of none. */
function concerns({ pallet, data }: LedgerBlock['events'][number], subnetId: number): boolean {
  if (pallet !== 'Network') return false
  const subnet = data['subnet_id'] ?? (typeof data['0'] === 'number' ? data['0'] : undefined)
  return subnet === undefined || subnet === subnetId
}
