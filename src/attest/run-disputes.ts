import { bytesToHex } from '@noble/hashes/utils.js'
import { errorMessage } from '../errors.ts'
import type { Dispute, Ledger, LedgerBlock, LedgerCall, LedgerSigner } from '../ledger/ledger.ts'
import { type Logger, silentLogger } from '../log.ts'
import { challengeDispute, finalizeDispute, voteDispute } from './dispute-calls.ts'
import { decideDispute, type DisputePeriods } from './dispute-duties.ts'
import { contentHash } from './evidence.ts'
import { type FaultJudge, type FaultVerdict, verifyFaultProof } from './fault-proof.ts'
import type { FetchContent } from './proposal.ts'

/** Follows a subnet's disputes: judges, challenges, votes and settles as `decideDispute` says. */

export interface DisputesOptions {
  readonly ledger: Ledger
  /** The node's hotkey. */
  readonly signer: LedgerSigner
  readonly subnetId: number
  readonly nodeId: number
  readonly judge: FaultJudge
  /** Fault proofs by content address (SHA-256 in hex). */
  readonly fetch: FetchContent
  /** A node was proven a liar: its routes and sessions end now, whatever the stake set says yet. */
  readonly onUpheld?: (defendant: { readonly nodeId: number; readonly peerId: string | undefined }) => void
  readonly log?: Logger
}

/** A proof that can't be fetched or run is tried again this many blocks later. */
const RETRY_BLOCKS = 5
/** One call of a dispute is sent again this many blocks after a failed one. */
const RESEND_BLOCKS = 2
/** A call that keeps failing costs a fee each time. */
const MAX_FAILURES = 3
/** Anybody could fill the memory with disputes otherwise. */
const MAX_REMEMBERED = 1_024

interface Memory {
  found?: FaultVerdict
  failures: number
  notBefore: number
  /** Its outcome was seen and told: nothing is left to do. */
  announced: boolean
}

/** One look at all disputes of the subnet. Blocks come in order, one at a time. Never rejects. */
export function createDisputes(options: DisputesOptions): {
  onBlock(block: Pick<LedgerBlock, 'number' | 'hash'>): Promise<void>
} {
  const { ledger, signer, subnetId, nodeId, judge } = options
  const log = (options.log ?? silentLogger).child('disputes')
  const memories = new Map<number, Memory>()
  /** Peers of accused nodes: the ledger forgets them when they are removed. */
  const peers = new Map<number, string>()

  async function judgeProof(dispute: Dispute): Promise<FaultVerdict | undefined> {
    const hash = bytesToHex(dispute.evidence)
    const bytes = await options.fetch(hash, [dispute.plaintiff])
    if (bytes === undefined || contentHash(bytes) !== hash) {
      log.warn('nobody has the fault proof', { dispute: dispute.id, hash })
      return undefined
    }
    const peerId = peers.get(dispute.defendant)
    if (peerId === undefined) return { verdict: 'unproven', reason: 'the accused is no node' }
    return await verifyFaultProof(bytes, { subnetId, nodeId: dispute.defendant, peerId }, judge)
  }

  async function send(call: LedgerCall, dispute: Dispute, memory: Memory, block: number): Promise<void> {
    memory.notBefore = block + RESEND_BLOCKS
    try {
      await ledger.submit(call, signer)
      log.info('sent', { call: call.call, dispute: dispute.id })
    } catch (error) {
      memory.failures++
      // Others settle it too; the next block tells.
      log.debug('not accepted', { call: call.call, dispute: dispute.id, reason: errorMessage(error) })
    }
  }

  async function look(
    dispute: Dispute,
    block: number,
    mayVote: boolean,
    periods: DisputePeriods,
  ): Promise<void> {
    const memory = memories.get(dispute.id) ?? { failures: 0, notBefore: 0, announced: false }
    memories.set(dispute.id, memory)
    if (dispute.outcome !== 'open') {
      memory.announced = true
      if (dispute.outcome === 'upheld') {
        options.onUpheld?.({ nodeId: dispute.defendant, peerId: peers.get(dispute.defendant) })
      }
      return
    }
    if (block < memory.notBefore || memory.failures >= MAX_FAILURES) return
    const view = { block, nodeId, mayVote, periods, verdict: memory.found?.verdict }
    let duty = decideDispute(dispute, view)
    if (duty.do === 'judge') {
      memory.notBefore = block + RETRY_BLOCKS
      const found = await judgeProof(dispute)
      if (found === undefined) return
      log.info('judged', { dispute: dispute.id, verdict: found.verdict, reason: found.reason })
      memory.found = found
      duty = decideDispute(dispute, { ...view, verdict: found.verdict })
    }
    const { id } = dispute
    if (duty.do === 'challenge') {
      await send(challengeDispute(subnetId, id, memory.found?.reason ?? ''), dispute, memory, block)
    }
    if (duty.do === 'vote') {
      await send(voteDispute(subnetId, id, nodeId, duty.guilty), dispute, memory, block)
    }
    if (duty.do === 'finalize') await send(finalizeDispute(subnetId, id), dispute, memory, block)
  }

  async function readPeriods(at: string): Promise<DisputePeriods> {
    const [challenge, voting] = await Promise.all(
      ['ChallengePeriod', 'VotingPeriod'].map((item) => ledger.storage('Disputes', item, [], at)),
    )
    return { challenge: Number(challenge), voting: Number(voting) }
  }

  return {
    async onBlock({ number, hash }) {
      if (!ledger.info.disputes || ledger.status.state !== 'reachable') return
      try {
        const disputes = (await ledger.disputes(subnetId, hash))
          .filter(({ id, outcome }) => outcome === 'open' || memories.get(id)?.announced !== true)
          .slice(-MAX_REMEMBERED)
        if (disputes.length === 0) return
        const nodes = await ledger.nodes(subnetId, hash)
        for (const { id, peerId } of nodes) peers.set(id, peerId)
        const mayVote = nodes.some((node) => node.id === nodeId && node.class === 'Validator')
        const periods = await readPeriods(hash)
        for (const dispute of disputes) {
          await look(dispute, number, mayVote, periods)
        }
        for (const id of memories.keys()) {
          if (memories.size <= MAX_REMEMBERED) break
          memories.delete(id)
        }
      } catch (error) {
        log.warn('disputes not followed', { block: number, reason: errorMessage(error) })
      }
    },
  }
}
