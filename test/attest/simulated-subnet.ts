import { ChoraleError } from '../../src/errors.ts'
import { answerAudit } from '../../src/attest/audit-messages.ts'
import { type AuditStep, createAuditStore, type AuditStore } from '../../src/attest/audit-store.ts'
import { workProofs } from '../../src/attest/served-work.ts'
import type { LoadPolicy } from '../../src/attest/score-by-parameters.ts'
import { createReportPool, type ReportPool } from '../../src/attest/report-pool.ts'
import { type Attest, createAttest } from '../../src/attest/run-attest.ts'
import {
  activateSubnet,
  addDelegateStake,
  attest,
  registerNode,
  registerSubnet,
} from '../../src/ledger/calls.ts'
import { createNativeChain, type NativeChain } from '../../src/ledger/devnet/native/native-chain.ts'
import { createNativeLedger } from '../../src/ledger/devnet/native/native-ledger.ts'
import { createNativeRuntime } from '../../src/ledger/devnet/native/runtime.ts'
import type { Ledger, LedgerBlock, LedgerCall, LedgerSigner, LedgerValue } from '../../src/ledger/ledger.ts'
import { multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { type Peer, peer, signSession, verify } from './peers.ts'

/** A subnet of many validators on the native chain in this process: honest ones, colluding proposers, a lying server. */

export const TOKEN = 10n ** 18n
export const EPOCH_BLOCKS = 20

export interface SimulatedNode {
  /** Node id on the ledger. */
  readonly id: number
  readonly peer: Peer
  readonly coldkey: LedgerSigner
  readonly hotkey: LedgerSigner
  readonly attest: Attest
  readonly malicious: boolean
}

export interface SimulatedSubnet {
  readonly chain: NativeChain
  readonly ledger: Ledger
  readonly subnetId: number
  readonly owner: LedgerSigner
  readonly slot: number
  readonly nodes: readonly SimulatedNode[]
  readonly blocks: readonly LedgerBlock[]
  /** Nodes that `onUpheld` named, by who was told. */
  readonly upheld: ReadonlyMap<number, ReadonlySet<number>>
  /** One subnet epoch: duties in its first blocks, then on to the next one's first block. */
  runEpoch(): Promise<void>
}

export interface SimulationOptions {
  readonly count: number
  /** Node ids, 1-based: propose what pays themselves, and attest each other's proposals. */
  readonly colluders: readonly number[]
  /** Signs for outputs that it did not compute. */
  readonly liar: number
  readonly runner: SpanRunner
  readonly blockCount: number
  readonly honestSteps: readonly AuditStep[]
  readonly falseSteps: readonly AuditStep[]
  readonly loadPolicy?: LoadPolicy
}

/** Somebody whose word is taken: checking thousands of signatures would cost more than all else. */
const signer = (n: number): LedgerSigner => ({
  address: `0x${(0xabc0_0000 + n).toString(16).padStart(40, '0')}`,
  kind: 'ethereum',
  sign: () => Promise.resolve(new Uint8Array(65)),
})

export async function simulateSubnet(options: SimulationOptions): Promise<SimulatedSubnet> {
  const { blockCount, colluders, count, falseSteps, honestSteps, liar, runner } = options
  const ids = Array.from({ length: count }, (_, i) => i + 1)
  const [owner, delegator] = [signer(0), signer(1)]
  const coldkeys = ids.map((id) => signer(1_000 + id))
  const hotkeys = ids.map((id) => signer(2_000 + id))
  const peers = await Promise.all(ids.map(async (id) => await peer(id)))
  const funds = [owner, delegator, ...coldkeys].map(({ address }) => [address, 10_000n * TOKEN])
  const native = createNativeRuntime({
    epochBlocks: EPOCH_BLOCKS,
    endowed: Object.fromEntries([...funds, ...hotkeys.map(({ address }) => [address, 100n * TOKEN])]),
  })
  const chain = createNativeChain(native, 6_000, 1_700_000_000_000)
  const ledger = cached(createNativeLedger(chain, { trustSigners: true }))
  const blocks: LedgerBlock[] = []
  ledger.watch((block) => blocks.push(block))
  const address = (id: number) =>
    multiaddrBytes(`/ip4/127.0.0.1/tcp/${4_000 + id}/p2p/${peers[id - 1]!.peerId}`)

  await ledger.submit(
    registerSubnet(10n * TOKEN, {
      name: 'simulated',
      repo: 'simulated',
      description: '',
      misc: '{}',
      minStake: 100n * TOKEN,
      maxStake: 1_000n * TOKEN,
      delegateStakePercentage: TOKEN / 10n,
      initialColdkeys: coldkeys.map((key) => [key.address, 1] as const),
      bootnodes: [[peers[0]!.peerId, address(1)]],
    }),
    owner,
  )
  const subnetId = (await ledger.subnets())[0]!.id
  for (const [i, coldkey] of coldkeys.entries()) {
    await ledger.submit(
      registerNode({
        subnetId,
        hotkey: hotkeys[i]!.address,
        peer: { peerId: peers[i]!.peerId, multiaddr: address(i + 1) },
        stake: 100n * TOKEN,
        maxBurn: TOKEN,
      }),
      coldkey,
    )
  }
  await ledger.submit(addDelegateStake(subnetId, 5_000n * TOKEN), delegator)
  while (chain.head.number % EPOCH_BLOCKS !== 0 || chain.head.number < 2 * EPOCH_BLOCKS) chain.produce()
  await ledger.submit(activateSubnet(subnetId), owner)
  const slot = (await ledger.subnet(subnetId))!.slot!

  // Four groups of validators, each with a view of its own of what was published.
  const registered = await ledger.nodes(subnetId)
  const peerOf = new Map(registered.map(({ id, peerId }) => [id, peerId]))
  const pools = Array.from({ length: 4 }, () =>
    createReportPool({ subnetId, verify, isNode: (id, peerId) => peerOf.get(id) === peerId }),
  )
  const stores = new Map<string, AuditStore>(peers.map(({ peerId }) => [peerId, createAuditStore()]))
  const upheld = new Map<number, Set<number>>()
  let epoch = 0

  const loadSpan = (lies: boolean) => async () => ({
    runner: lies ? lyingRunner(runner) : runner,
    compute: 'float32' as const,
    close: () => Promise.resolve(),
  })

  function makeNode(id: number): SimulatedNode {
    const i = id - 1
    const self = peers[i]!
    const own = pools[i % pools.length]!
    const malicious = colluders.includes(id) || id === liar
    const hotkey = hotkeys[i]!
    const node = createAttest({
      ledger: colluders.includes(id) ? greedy(ledger, id, colluders) : ledger,
      signer: hotkey,
      subnetId,
      nodeId: id,
      sign: (bytes) => self.sign(bytes),
      pool: own,
      publish: async (bytes) => {
        for (const [group, pool] of pools.entries()) {
          // Now and then a report does not arrive in time.
          if (pool !== own && epoch % 10 === 3 && group === epoch % 4 && id % 7 === 0) continue
          await pool.add(bytes)
        }
      },
      fetch: async (hash) => await Promise.resolve(find(pools, hash)),
      ...(options.loadPolicy && { loadPolicy: options.loadPolicy }),
      judge: { verify, loadSpan: loadSpan(id === liar) },
      ask: async (peerId, request) => {
        const asked = nodes.find((other) => other.peer.peerId === peerId)!
        // Servers show sessions to accountants alone.
        if (!asked.attest.mayAudit(self.peerId)) throw new ChoraleError('refused', 'no accountant')
        return await Promise.resolve(answerAudit(request, stores.get(peerId)!))
      },
      onUpheld: (defendant) => {
        upheld.set(defendant.nodeId, (upheld.get(defendant.nodeId) ?? new Set()).add(id))
      },
      observe: async (view) => {
        const session = await signSession(
          {
            server: self,
            client: peers[(i + 1) % count]!,
            modelId: 'odd@1',
            start: 0,
            end: blockCount,
            issuedAt: view.until - 60_000,
            id: view.epoch * 1_000 + id,
          },
          id === liar ? falseSteps : honestSteps,
        )
        const store = stores.get(self.peerId)!
        store.open(session.session, session.opening)
        for (const step of session.steps) store.step(session.session, step)
        for (const receipt of session.receipts) store.receipt(receipt)
        return {
          peerId: self.peerId,
          modelId: 'odd@1',
          blockCount,
          start: 0,
          end: blockCount,
          sightings: view.nodes.map(({ nodeId }) => ({
            nodeId,
            start: 0,
            end: blockCount,
            uptime: 900 + ((nodeId * 7 + id * 3 + view.epoch) % 100),
          })),
          receipts: workProofs(store, view),
        }
      },
    })
    return { id, peer: self, coldkey: coldkeys[i]!, hotkey, attest: node, malicious }
  }
  const nodes = registered.map(({ id }) => makeNode(id))

  /** All nodes look at the best block, and again as long as that makes new ones. */
  async function settle(): Promise<void> {
    for (let before = -1; before !== chain.head.number;) {
      const { hash, number, parentHash } = chain.head
      before = number
      await Promise.all(
        nodes.map(async (node) => await node.attest.onBlock({ number, hash, parentHash, events: [] })),
      )
      await Promise.all(nodes.map(async (node) => await node.attest.idle()))
      await collude()
    }
  }

  async function collude(): Promise<void> {
    const proposal = await ledger.consensus(subnetId, epoch)
    if (proposal === undefined || !colluders.includes(proposal.proposer)) return
    const friends = nodes.filter(
      ({ id }) =>
        colluders.includes(id) && proposal.validators.includes(id) && !proposal.attestors.includes(id),
    )
    const live = new Set((await ledger.nodes(subnetId)).map(({ id }) => id))
    await Promise.all(
      friends
        .filter(({ id }) => live.has(id))
        .map(async ({ hotkey }) => await ledger.submit(attest(subnetId), hotkey)),
    )
  }

  async function runEpoch(): Promise<void> {
    epoch = Math.floor((chain.head.number - slot) / EPOCH_BLOCKS)
    const end = (epoch + 1) * EPOCH_BLOCKS + slot
    // Reports; proposal and attestations; audits, accusations, votes.
    for (const blocksAfter of [0, 1, 1]) {
      chain.produce(blocksAfter)
      await settle()
    }
    if (chain.head.number >= end)
      throw new Error(`an epoch of ${EPOCH_BLOCKS} blocks is too short for its calls`)
    chain.produce(end - chain.head.number)
  }

  while ((chain.head.number - slot) % EPOCH_BLOCKS !== 0) chain.produce()
  return { chain, ledger, subnetId, owner, slot, nodes, blocks, upheld, runEpoch }
}

function find(pools: readonly ReportPool[], hash: string): Uint8Array | undefined {
  for (const pool of pools) {
    const bytes = pool.get(hash)
    if (bytes !== undefined) return bytes
  }
  return undefined
}

/** Reads of one block are the same for everybody: each is made once. */
function cached(ledger: Ledger): Ledger {
  const known = new Map<string, Promise<unknown>>()
  const once = <T>(at: string | undefined, key: string, read: () => Promise<T>): Promise<T> => {
    if (at === undefined) return read()
    const name = `${at} ${key}`
    const found = known.get(name) ?? read()
    known.set(name, found)
    if (known.size > 2_000) known.delete(known.keys().next().value!)
    return found as Promise<T>
  }
  const named = (keys: readonly LedgerValue[]) => keys.map(String).join(' ')
  return {
    ...ledger,
    subnet: (id, at) => once(at, `subnet ${id}`, () => ledger.subnet(id, at)),
    nodes: (id, at) => once(at, `nodes ${id}`, () => ledger.nodes(id, at)),
    electedNode: (id, epoch, at) =>
      once(at, `elected ${id} ${epoch}`, () => ledger.electedNode(id, epoch, at)),
    consensus: (id, epoch, at) => once(at, `consensus ${id} ${epoch}`, () => ledger.consensus(id, epoch, at)),
    disputes: (id, at) => once(at, `disputes ${id}`, () => ledger.disputes(id, at)),
    storage: (pallet, item, keys, at) =>
      once(at, `${pallet}.${item} ${named(keys)}`, () => ledger.storage(pallet, item, keys, at)),
  }
}

/** Pays its friends a hundredfold. */
function greedy(ledger: Ledger, _: number, friends: readonly number[]): Ledger {
  return {
    ...ledger,
    submit: (call, by, more) => {
      if (call.call !== 'propose_attestation') return ledger.submit(call, by, more)
      const data = call.args['data'] as unknown as readonly { subnet_node_id: number; score: bigint }[]
      const raised = data.map((entry) =>
        friends.includes(entry.subnet_node_id) ? { ...entry, score: entry.score * 100n } : entry,
      )
      const args: LedgerCall['args'] = { ...call.args, data: raised }
      return ledger.submit({ ...call, args }, by, more)
    },
  }
}

/** Computes what the liar claims, so that it finds itself innocent. */
function lyingRunner(runner: SpanRunner): SpanRunner {
  return {
    ...runner,
    open: async (how) => {
      const session = await runner.open(how)
      return {
        ...session,
        get position() {
          return session.position
        },
        step: async (hidden, more) => {
          const output = await session.step(hidden, more)
          return { ...output, data: output.data.map((value) => value * 1.05) }
        },
      }
    },
  }
}
