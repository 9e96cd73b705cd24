import { errorMessage } from '../errors.ts'
import { attest, proposeAttestation } from '../ledger/calls.ts'
import type { Consensus, Ledger, LedgerBlock, LedgerCall, LedgerSigner } from '../ledger/ledger.ts'
import { type Logger, silentLogger } from '../log.ts'
import { type AgreementRule, DEFAULT_AGREEMENT } from './agreement.ts'
import { type EpochTime, epochTime } from './epoch-clock.ts'
import {
  afterDisagreement,
  afterFailure,
  decideDuty,
  type DutyDone,
  type DutyMemory,
  isPolicyError,
  newEpochMemory,
} from './epoch-duties.ts'
import { type EpochReport, signReport } from './epoch-report.ts'
import type { SignBytes } from './evidence.ts'
import { followBlocks } from './follow-blocks.ts'
import { type EpochView, isAtLeast, readEpochView } from './ledger-view.ts'
import { examineProposal, type FetchContent, makeProposal } from './proposal.ts'
import type { ReportPool } from './report-pool.ts'
import { type LoadPolicy, scoreByParameters } from './score-by-parameters.ts'

/** Carries out what `decideDuty` decides, block after block: reports, proposes, attests. */

export interface EpochDutiesOptions {
  readonly ledger: Ledger
  /** Signs calls: the node's hotkey. */
  readonly signer: LedgerSigner
  readonly subnetId: number
  readonly nodeId: number
  /** Signs reports: the peer's own key. */
  readonly sign: SignBytes
  readonly pool: ReportPool
  /** What this node has to report of the epoch `view.epoch`; undefined when it knows nothing of it. */
  readonly makeReport: (view: EpochView) => Promise<EpochReport | undefined>
  /** Sends a report to the other nodes (gossip), who `add` it to their pools; this one's has it already. */
  readonly publish: (report: Uint8Array) => Promise<void>
  /** Reports and manifests by content address from other nodes. */
  readonly fetch: FetchContent
  /** Own reports outlive the process here: two different ones of one epoch would both be void. */
  readonly ownReports?: {
    load(epoch: number): Promise<Uint8Array | undefined>
    save(epoch: number, bytes: Uint8Array): Promise<void>
  }
  /** The wasm of a policy program by its SHA-256. Without it no duty is done where the subnet has a policy. */
  readonly loadPolicy?: LoadPolicy
  /** When evidence may differ; default `DEFAULT_AGREEMENT`. */
  readonly rule?: AgreementRule
  /** A call that is in no block by then is of unknown fate: the ledger is asked again. Default 60 s. */
  readonly submitTimeoutMs?: number
  /** The node stops: a policy program that runs is given up, and with it the duty. Other work is NOT stopped. */
  readonly policySignal?: AbortSignal
  readonly log?: Logger
  /** Called on every block with what its epoch is judged by: the accountant's work hangs on it. Must not throw. */
  readonly onView?: (view: EpochView, time: EpochTime) => void
  /** Called after each thing this node did, or failed to do. */
  readonly onDone?: (duty: DutyDone) => void
  /** Called after every block. */
  readonly onState?: (state: EpochDutyState) => void
}

/** For people: what the epoch panel shows. */
export interface EpochDutyState {
  readonly time: EpochTime
  readonly elected: number | undefined
  readonly consensus: Consensus | undefined
  /** Attestors of the epoch before, in parts per thousand of its validators; undefined when nothing was proposed. */
  readonly lastAttestation: number | undefined
  /** What this node does or waits for. */
  readonly duty: string
}

export interface EpochDuties {
  /** Looks at one block and does what is due; calls of `runEpochDuties` come in block order, one at a time. */
  onBlock(block: Pick<LedgerBlock, 'number' | 'hash' | 'parentHash'>): Promise<void>
  readonly state: EpochDutyState | undefined
}

const SUBMIT_TIMEOUT_MS = 60_000

/** The duties of one node. Nothing here throws for what the ledger or peers do: it is logged, and looked at again. */
export function createEpochDuties(options: EpochDutiesOptions): EpochDuties {
  const { ledger, signer, subnetId, nodeId, pool, rule = DEFAULT_AGREEMENT } = options
  const log = (options.log ?? silentLogger).child('duties')
  let memory: DutyMemory | undefined
  let state: EpochDutyState | undefined
  let view: EpochView | undefined
  let elected: number | undefined
  let lastHash: string | undefined
  let reported: string | undefined
  let lastAttestation: number | undefined

  /** What is fixed for the epoch, read anew when the branch may have changed. */
  async function enterEpoch(time: EpochTime, slot: number, block: BlockName): Promise<EpochView | undefined> {
    const onSameBranch = block.parentHash === lastHash || block.hash === lastHash
    const known = view?.epoch === time.epoch - 1 ? view : undefined
    if (known !== undefined && onSameBranch) return known
    const hash =
      block.number === time.firstBlock
        ? block.hash
        : await ledger.storage('System', 'BlockHash', [time.firstBlock], block.hash)
    if (typeof hash !== 'string') return undefined
    if (known?.blockHash !== hash) {
      view = await readEpochView(ledger, { subnetId, epoch: time.epoch, slot, blockHash: hash, before: view })
      const last = await ledger.consensus(subnetId, time.epoch - 1, hash)
      lastAttestation =
        last && Math.floor((last.attestors.length * 1000) / Math.max(1, last.validators.length))
      pool.forgetBefore(time.epoch - 2)
    }
    elected = await ledger.electedNode(subnetId, time.epoch, block.hash)
    return view
  }

  async function report(current: EpochView): Promise<void> {
    const key = `${current.epoch}`
    if (reported === key || !current.nodes.some((node) => node.nodeId === nodeId)) return
    let bytes = await options.ownReports?.load(current.epoch)
    if (bytes === undefined) {
      const made = await options.makeReport(current)
      if (made === undefined) return
      bytes = await signReport(made, options.sign)
      await options.ownReports?.save(current.epoch, bytes)
    }
    reported = key
    await pool.add(bytes)
    await options.publish(bytes)
    options.onDone?.('reported')
  }

  async function submit(call: LedgerCall, time: EpochTime, duty: DutyDone): Promise<void> {
    try {
      const signal = AbortSignal.timeout(options.submitTimeoutMs ?? SUBMIT_TIMEOUT_MS)
      await ledger.submit(call, signer, { signal })
      log.info('sent', { call: call.call, epoch: time.epoch })
      options.onDone?.(duty)
    } catch (error) {
      // Refused (by then somebody else had done it, or the epoch had ended) or lost: the next block tells which.
      memory = afterFailure(memory, time)
      options.onDone?.('refused')
      log.warn('not accepted', { call: call.call, epoch: time.epoch, reason: errorMessage(error) })
    }
  }

  async function propose(current: EpochView, time: EpochTime): Promise<string> {
    const proposal = await makeProposal(current, pool, score(current))
    await submit(proposeAttestation(subnetId, proposal.scores, { args: proposal.args }), time, 'proposed')
    return `proposed ${proposal.scores.length} scores`
  }

  async function examine(
    current: EpochView,
    consensus: Consensus,
    time: EpochTime,
    block: BlockName,
  ): Promise<string> {
    const verdict = await examineProposal(current, consensus, {
      pool,
      rule,
      fetch: options.fetch,
      score: score(current),
      gone: async () => {
        const nodes = await ledger.nodes(subnetId, block.hash)
        const live = new Set(nodes.filter((node) => isAtLeast(node.class, 'Included')).map(({ id }) => id))
        return new Set(current.nodes.map((node) => node.nodeId).filter((id) => !live.has(id)))
      },
    })
    if (verdict.agree) {
      await submit(attest(subnetId), time, 'attested')
      return 'attested'
    }
    memory = afterDisagreement(memory, time)
    options.onDone?.('disagreed')
    log.warn('does not attest', { epoch: time.epoch, proposer: consensus.proposer, reason: verdict.reason })
    return `does not attest: ${verdict.reason}`
  }

  const score = (current: EpochView) =>
    scoreByParameters(current.parameters, options.loadPolicy, options.policySignal)

  async function look(block: BlockName): Promise<void> {
    const subnet = await ledger.subnet(subnetId, block.hash)
    if (subnet === undefined || subnet.slot === undefined || subnet.state !== 'Active') return
    const time = epochTime(block.number, subnet.slot, ledger.info.epochBlocks)
    if (time.epoch < 1) return
    const current = await enterEpoch(time, subnet.slot, block)
    if (current === undefined) return
    lastHash = block.hash
    if (memory?.epoch !== time.epoch) memory = newEpochMemory(time)
    options.onView?.(current, time)
    await report(current).catch((error: unknown) => {
      // Other duties do not hang on it.
      log.warn('no report', { epoch: current.epoch, reason: errorMessage(error) })
    })
    const consensus = await ledger.consensus(subnetId, time.epoch, block.hash)
    const duty = decideDuty(
      {
        time,
        nodeId,
        elected,
        consensus,
        isValidator: current.validators.includes(nodeId),
        reports: { here: pool.counted(current).length, expected: current.nodes.length },
      },
      memory,
      current.parameters.epoch,
    )
    let said = duty.do === 'nothing' ? duty.reason : ''
    try {
      if (duty.do === 'propose') said = await propose(current, time)
      if (duty.do === 'examine') said = await examine(current, duty.consensus, time, block)
    } catch (error) {
      if (!isPolicyError(error)) throw error
      // Nobody scores by another formula: this node stands aside, and says why.
      said = `does nothing: ${errorMessage(error)}`
      options.onDone?.('unscored')
      // A program that is not here may come; one that fails does so again, and takes seconds of gas each time.
      if (error.code !== 'not_found') memory = afterFailure(memory, time)
      if (said !== state?.duty) log.warn('no scores', { epoch: time.epoch, reason: errorMessage(error) })
    }
    state = { time, elected, consensus, lastAttestation, duty: said }
    options.onState?.(state)
  }

  return {
    async onBlock(block) {
      if (ledger.status.state !== 'reachable') return
      try {
        await look(block)
      } catch (error) {
        // What was read half-way must not count as known.
        lastHash = undefined
        if (options.policySignal?.aborted === true) return
        log.warn('duty failed', { block: block.number, reason: errorMessage(error) })
      }
    },
    get state() {
      return state
    },
  }
}

type BlockName = Pick<LedgerBlock, 'number' | 'hash' | 'parentHash'>

/** Follows the ledger. When blocks come faster than duties are done, the newest one counts. @returns how to stop. */
export function runEpochDuties(options: EpochDutiesOptions): EpochDuties & { stop(): Promise<void> } {
  const duties = createEpochDuties(options)
  const follower = followBlocks(options.ledger, (block) => duties.onBlock(block))
  return {
    onBlock: (block) => duties.onBlock(block),
    get state() {
      return duties.state
    },
    stop: () => follower.stop(),
  }
}
