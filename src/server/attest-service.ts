import { createObserver, createSightingLog, presentNodes } from '../attest/served-work.ts'
import { contentHash } from '../attest/evidence.ts'
import type { LoadJudgeSpan } from '../attest/fault-proof.ts'
import { createPolicyShelf, memoryPolicies, type PolicyStore } from '../attest/policy/policy-shelf.ts'
import { createReportPool } from '../attest/report-pool.ts'
import { type Attest, type AttestOptions, createAttest } from '../attest/run-attest.ts'
import { followBlocks } from '../attest/follow-blocks.ts'
import { errorMessage } from '../errors.ts'
import type { Ledger, LedgerBlock, LedgerSigner, SubnetNode } from '../ledger/ledger.ts'
import type { StakeSet } from '../ledger/stake-set.ts'
import { type Logger, silentLogger } from '../log.ts'
import { createMetrics, type Metrics } from '../metrics.ts'
import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'
import type { DhtDirectory } from '../swarm/dht-directory.ts'
import { signBytes, verifySignature } from '../swarm/identity.ts'
import type { Peer } from '../swarm/peer.ts'
import { startAttestExchange } from './attest-exchange.ts'
import { type DutiesState, dutiesMetrics } from './duties-state.ts'
import { memoryProofs, type ProofStore } from './proof-store.ts'
import type { ServedEvidence } from './served-evidence.ts'

/** A server's duties as a node of its subnet: reports, proposals, attestations, audits, disputes. */

export interface DutiesOptions {
  /** Must gossip, and have the gate of this subnet. */
  readonly peer: Peer
  readonly directory: Pick<DhtDirectory, 'known' | 'servers'>
  readonly ledger: Ledger
  readonly stakes: Pick<StakeSet, 'nodes' | 'parameters' | 'subnetId'>
  /** The node's hotkey. */
  readonly signer: LedgerSigner
  readonly model: ModelRecord
  readonly evidence: ServedEvidence
  readonly loadSpan: LoadJudgeSpan
  /** Own reports outlive the process here: two different ones of one epoch would both be void. */
  readonly ownReports?: NonNullable<AttestOptions['ownReports']>
  /** Default: the last few, in memory. */
  readonly proofs?: ProofStore
  /** Programs that may take the place of the score's formula; those of other nodes are put in. Default: in memory. */
  readonly policies?: PolicyStore
  /** Sessions re-run in an epoch when this node is an accountant; default 2. */
  readonly audits?: number
  readonly metrics?: Metrics
  readonly log?: Logger
  /** Called after every block. */
  readonly onState?: (state: DutiesState) => void
}

export interface Duties {
  readonly state: DutiesState | undefined
  /** Resolves when the last block was looked at and no audit or fetch is under way. */
  idle(): Promise<void>
  /** Waits for what is under way; a policy program that runs is ended. */
  stop(): Promise<void>
}

/** Nodes to be connected to: gossip keeps six to twelve in a topic. */
const MIN_NEIGHBOURS = 8
/** A node that was not reached is left alone for so long. */
const REMEET_MS = 30_000
/** How long the directory may take to say who serves. */
const LOOK_MS = 3_000

/**
 * Starts a server's duties; they follow the ledger until stopped. Nothing the ledger or peers do ends them.
 * @throws `bad_request` when the peer does not gossip in this subnet.
 */
export async function startDuties(options: DutiesOptions): Promise<Duties> {
  const { directory, evidence, ledger, model, peer, signer, stakes } = options
  const { subnetId } = stakes
  const log = (options.log ?? silentLogger).child('duties')
  const gauges = dutiesMetrics(options.metrics ?? createMetrics())
  const proofs = options.proofs ?? memoryProofs()
  const sightings = createSightingLog()
  const pool = createReportPool({
    subnetId,
    verify: verifySignature,
    isNode: (id, peerId) => stakes.nodes.some((node) => node.id === id && node.peerId === peerId),
  })
  const stopping = new AbortController()
  const policies = createPolicyShelf({
    signal: stopping.signal,
    store: options.policies ?? memoryPolicies(),
    fetch: (sha256) => exchange.fetchPolicy(sha256),
    log,
  })
  let attest: (Attest & { readonly nodeId: number }) | undefined
  let state: DutiesState | undefined
  let complaint: string | undefined
  /** When each node was last dialled for gossip's sake. */
  const met = new Map<string, number>()

  const exchange = await startAttestExchange({
    peer,
    subnetId,
    pool,
    store: evidence.store,
    proofOf: (hash) => proofs.load(hash),
    policyOf: (sha256) => policies.get(sha256),
    mayAudit: (peerId) => attest?.mayAudit(peerId) === true,
    peers: () => new Map(stakes.nodes.map((node) => [node.id, node.peerId])),
    addrsOf: (peerId) =>
      directory.known(model.modelId).find((record) => record.peerId === peerId)?.addrs ?? [],
    log,
  })

  const createFor = (nodeId: number): Attest & { readonly nodeId: number } => {
    const observe = createObserver({
      peerId: peer.id,
      // The span of the epoch that ended is put in below.
      served: () => ({ modelId: model.modelId, blockCount: model.blockCount, start: 0, end: 0 }),
      log: sightings,
      store: evidence.store,
      passOf: (client) => evidence.passOf(client),
    })
    const made = createAttest({
      ledger,
      signer,
      subnetId,
      nodeId,
      pool,
      log,
      sign: (bytes) => signBytes(peer.identity, bytes),
      observe: async (view) => {
        const seen = await observe(view)
        const own = seen?.sightings.find((sighting) => sighting.nodeId === nodeId)
        return seen && own ? { ...seen, start: own.start, end: own.end } : seen
      },
      publish: (report) => exchange.publish(report),
      fetch: (hash, holders, signal) => exchange.fetch(hash, holders, signal),
      ask: (peerId, request, signal) => exchange.ask(peerId, request, signal),
      judge: { verify: verifySignature, loadSpan: options.loadSpan },
      keepProof: async (hash, bytes) => {
        gauges.proofs.inc()
        await proofs.save(hash, bytes)
      },
      onUpheld: ({ nodeId: liar, peerId }) => {
        gauges.upheld.inc()
        log.warn('a dispute was upheld', { node: liar, peer: peerId })
        // Its routes and sessions end now, whatever the stake set says yet.
        if (peerId !== undefined && peerId !== peer.id) {
          peer.gate?.ban(peerId, `node ${liar} was proven to compute falsely`)
        }
      },
      ...(options.ownReports && { ownReports: options.ownReports }),
      loadPolicy: (sha256) => policies.load(sha256),
      policySignal: stopping.signal,
      onDone: (duty) => gauges.done.inc({ duty }),
      ...(options.audits !== undefined && { audits: options.audits }),
    })
    return Object.assign(made, { nodeId })
  }

  /** This server's node, if it may act for it. What keeps it from that is said once. */
  const findNode = (): SubnetNode | undefined => {
    const node = stakes.nodes.find(({ peerId }) => peerId === peer.id)
    const wrong =
      node === undefined
        ? `peer ${peer.id} is no node of subnet ${subnetId}: register it with this hotkey, ${signer.address}`
        : node.hotkey.toLowerCase() === signer.address.toLowerCase()
          ? undefined
          : `node ${node.id} has the hotkey ${node.hotkey}, not ${signer.address}`
    if (wrong !== complaint && wrong !== undefined) log.warn('no duties', { reason: wrong })
    complaint = wrong
    return wrong === undefined ? node : undefined
  }

  /** Who serves now, so that each node's word about itself has witnesses. */
  const look = async (epoch: number): Promise<void> => {
    let records: readonly ServerRecord[]
    try {
      records = await directory.servers(model.modelId, AbortSignal.timeout(LOOK_MS))
    } catch (error) {
      log.debug('the directory did not answer', { reason: errorMessage(error) })
      records = directory.known(model.modelId)
    }
    sightings.look(epoch, presentNodes(records, stakes.nodes, model.modelId))
    await meet(records)
  }

  /** Reports travel from node to node: without a few connections to others they would end here. */
  const meet = async (records: readonly ServerRecord[]): Promise<void> => {
    const connected = peer.measures()
    const nodes = stakes.nodes.map(({ peerId }) => peerId).filter((id) => id !== peer.id)
    const missing = MIN_NEIGHBOURS - nodes.filter((id) => connected.has(id)).length
    if (missing <= 0) return
    const strangers = nodes.filter(
      (id) => !connected.has(id) && (met.get(id) ?? -Infinity) <= performance.now() - REMEET_MS,
    )
    const near = strangers.toSorted((a, b) => (distanceOf(peer.id, a) < distanceOf(peer.id, b) ? -1 : 1))
    await Promise.all(
      near.slice(0, missing).map(async (id) => {
        met.set(id, performance.now())
        const addrs = records.find(({ peerId }) => peerId === id)?.addrs ?? []
        await peer.connect(id, addrs, LOOK_MS).catch((error: unknown) => {
          log.debug('a node was not reached', { peer: id, reason: errorMessage(error) })
        })
      }),
    )
  }

  const onBlock = async (block: LedgerBlock): Promise<void> => {
    const node = findNode()
    if (node === undefined) attest = undefined
    // Registered anew, it is another node: nothing of the old one's epoch is its own.
    else if (attest?.nodeId !== node.id) attest = createFor(node.id)
    // Before it is needed: what counts is read at the beginning of the next epoch.
    policies.follow(stakes.parameters.policy)
    await attest?.onBlock(block)
    const seen = attest?.state
    const time = seen?.time
    const current = time && block.number >= time.firstBlock && block.number <= time.lastBlock
    if (current) {
      await exchange.repeat()
      await look(time.epoch)
    }
    state = {
      block: block.number,
      nodeId: node?.id,
      nodeClass: node?.class,
      epoch: time?.epoch,
      progress: time?.progress,
      elected: seen?.elected,
      duty: seen?.duty ?? complaint ?? 'waits for the subnet to be active',
      lastAttestation: seen?.lastAttestation,
      policy: policies.state,
      findings: time === undefined ? [] : (attest?.findings(time.epoch) ?? []),
    }
    gauges.show(state)
    options.onState?.(state)
  }

  let busy: Promise<void> = Promise.resolve()
  const follower = followBlocks(ledger, (block) => {
    busy = onBlock(block).catch((error: unknown) => {
      log.warn('duties failed', { block: block.number, reason: errorMessage(error) })
    })
    return busy
  })
  return {
    get state() {
      return state
    },
    idle: async () => {
      await busy
      await attest?.idle()
      await policies.idle()
      await exchange.idle()
    },
    stop: async () => {
      stopping.abort()
      await follower.stop()
      await attest?.idle()
      await policies.idle()
      await exchange.close()
    },
  }
}

/** Any order that is another one for each peer, so that not all connect to the same few. */
function distanceOf(own: string, other: string): string {
  return contentHash(new TextEncoder().encode(`${own} ${other}`))
}
