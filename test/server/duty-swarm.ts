import { join } from 'node:path'
import { vi } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { memoryPolicies, type PolicyStore } from '../../src/attest/policy/policy-shelf.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { activateSubnet, addDelegateStake, registerNode, registerSubnet } from '../../src/ledger/calls.ts'
import { createNativeChain, type NativeChain } from '../../src/ledger/devnet/native/native-chain.ts'
import { createNativeLedger } from '../../src/ledger/devnet/native/native-ledger.ts'
import { createNativeRuntime } from '../../src/ledger/devnet/native/runtime.ts'
import type { Ledger, LedgerSigner } from '../../src/ledger/ledger.ts'
import { multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'
import { createStakeSet } from '../../src/ledger/stake-set.ts'
import { keyFromSecret, signerOf } from '../../src/ledger/substrate/key-derivation.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import type { ModelRecord } from '../../src/routing/snapshot.ts'
import { type Duties, startDuties } from '../../src/server/attest-service.ts'
import { createJudgeSpans } from '../../src/server/judge-span.ts'
import { createServedEvidence } from '../../src/server/served-evidence.ts'
import { type ServingServer, startServer } from '../../src/server/server.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { createDhtDirectory, type DhtDirectory } from '../../src/swarm/dht-directory.ts'
import { gossip } from '../../src/swarm/gossip.ts'
import { createIdentity, type Identity } from '../../src/swarm/identity.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { createStakeGate, type StakeGate } from '../../src/swarm/stake-gate.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { loopbackPeer, TCP } from '../swarm/loopback.ts'

/** Servers with stake on a chain in this process, over loopback TCP, and a client. Time is the chain's. */

export const TOKEN = 10n ** 18n
export const EPOCH_BLOCKS = 20
const BLOCK_MS = 250
const START_MS = 1_790_000_000_000

export interface DutyServer {
  readonly nodeId: number
  readonly peer: Peer
  readonly directory: DhtDirectory
  readonly server: ServingServer
  readonly duties: Duties
  readonly gate: StakeGate
  readonly metrics: Metrics
  /** Outputs are multiplied by this. */
  factor: number
  /** Spans loaded so far, the served one first. */
  readonly loads: readonly Span[]
}

export interface DutySwarm {
  readonly chain: NativeChain
  readonly ledger: Ledger
  /** Signs for the subnet. */
  readonly owner: LedgerSigner
  /** Policy programs of each server. */
  readonly policies: readonly PolicyStore[]
  readonly subnetId: number
  readonly model: Model
  readonly record: ModelRecord
  readonly engine: Engine
  readonly servers: readonly DutyServer[]
  readonly client: { readonly peer: Peer; readonly directory: DhtDirectory; readonly gate: StakeGate }
  /** On to the next epoch, and through what is due at its beginning: reports, proposal, attestations, audits. */
  nextEpoch(): Promise<void>
  close(): Promise<void>
}

const signer = (n: number): LedgerSigner => {
  const secret = new Uint8Array(32).fill(5)
  new DataView(secret.buffer).setUint32(0, n + 1)
  return signerOf(keyFromSecret(secret, 'ethereum'))
}

export async function pollUntil(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** One server for each span. */
export async function dutySwarm(spans: readonly Span[]): Promise<DutySwarm> {
  vi.useFakeTimers({ toFake: ['Date'] })
  vi.setSystemTime(START_MS)
  const closers: (() => Promise<void> | void)[] = [() => void vi.useRealTimers()]
  const close = async (): Promise<void> => {
    for (const end of closers.splice(0).toReversed()) await end()
  }
  const [owner, delegator] = [signer(0), signer(1)]
  const coldkeys = spans.map((_, i) => signer(100 + i))
  const hotkeys = spans.map((_, i) => signer(200 + i))
  const clientColdkey = signer(300)
  const policies = spans.map(() => memoryPolicies())
  const identities = await Promise.all([...spans, 'client'].map(() => createIdentity()))
  const native = createNativeRuntime({
    epochBlocks: EPOCH_BLOCKS,
    blockMs: BLOCK_MS,
    endowed: Object.fromEntries([
      ...[owner, delegator, clientColdkey, ...coldkeys].map(({ address }) => [address, 10_000n * TOKEN]),
      ...[...hotkeys, signer(301)].map(({ address }) => [address, 100n * TOKEN]),
    ]),
  })
  const chain = createNativeChain(native, BLOCK_MS, START_MS)
  // Everybody's clock is the chain's.
  closers.push(chain.listen(({ number }) => void vi.setSystemTime(START_MS + number * BLOCK_MS)))
  const ledger = createNativeLedger(chain)
  closers.push(() => ledger.close())
  const place = ({ peerId }: Identity) => multiaddrBytes(`/ip4/127.0.0.1/tcp/4001/p2p/${peerId}`)
  await ledger.submit(
    registerSubnet(10n * TOKEN, {
      name: 'duties',
      repo: 'duties',
      description: '',
      misc: '{}',
      minStake: 100n * TOKEN,
      maxStake: 1_000n * TOKEN,
      delegateStakePercentage: TOKEN / 10n,
      initialColdkeys: [...coldkeys, clientColdkey].map((key) => [key.address, 1] as const),
      bootnodes: [[identities[0]!.peerId, place(identities[0]!)]],
    }),
    owner,
  )
  const subnetId = (await ledger.subnets())[0]!.id
  for (const [i, coldkey] of coldkeys.entries()) {
    const identity = identities[i]!
    const client = identities.at(-1)
    await ledger.submit(
      registerNode({
        subnetId,
        hotkey: hotkeys[i]!.address,
        peer: { peerId: identity.peerId, multiaddr: place(identity) },
        // The client has the stake of the first server's owner: that one's own work for it does not count.
        ...(i === 0 && { clientPeer: { peerId: client.peerId, multiaddr: place(client) } }),
        // Twice the least: one bad proposal must not cut a node off.
        stake: 200n * TOKEN,
        maxBurn: TOKEN,
      }),
      coldkey,
    )
  }
  await ledger.submit(addDelegateStake(subnetId, 5_000n * TOKEN), delegator)
  while (chain.head.number % EPOCH_BLOCKS !== 0 || chain.head.number < 2 * EPOCH_BLOCKS) chain.produce()
  await ledger.submit(activateSubnet(subnetId), owner)
  const slot = (await ledger.subnet(subnetId))!.slot!

  const model = await openModel(join(import.meta.dirname, '../../models/storyteller'), {
    files: createFileStore(),
  })
  closers.push(() => model.close())
  const engine = createReferenceEngine()
  const record: ModelRecord = {
    modelId: model.id,
    name: model.name,
    blockCount: model.spec.blockCount,
    hiddenSize: model.spec.hiddenSize,
  }
  const registered = await ledger.nodes(subnetId)
  let bootstrap: readonly string[] = []

  async function joinAs(identity: Identity, serve: boolean) {
    const stakes = await createStakeSet({ ledger, subnetId })
    const metrics = createMetrics()
    const gate = createStakeGate({ stakes, metrics })
    const peer = await loopbackPeer({
      identity,
      gate,
      bootstrap,
      ...(serve && { listen: [TCP], gossip: gossip() }),
    })
    const directory = await createDhtDirectory(peer, { serve })
    closers.push(async () => {
      await directory.close()
      await peer.close()
      gate.close()
      stakes.close()
    })
    return { stakes, gate, peer, directory, metrics }
  }

  async function startOne(i: number): Promise<DutyServer> {
    const identity = identities[i]!
    const { stakes, gate, peer, directory, metrics } = await joinAs(identity, true)
    const evidence = createServedEvidence(gate)
    const loads: Span[] = []
    const self = { factor: 1 }
    const load = async (span: Span, kvTokens: number): Promise<EngineSpan> => {
      loads.push(span)
      const loaded = await engine.loadSpan(model, { ...span, kvTokens })
      return lying(loaded, () => self.factor)
    }
    const server = await startServer({
      peer,
      directory,
      model: record,
      span: spans[i]!,
      engine: engine.name,
      load: (span) => load(span, 2_048),
      announceMs: 500,
      // What was computed before the lie must not be given out again.
      prefixCache: false,
      serve: { tap: evidence.tap },
    })
    closers.push(() => server.stop(0))
    const duties = await startDuties({
      peer,
      directory,
      ledger,
      stakes,
      signer: hotkeys[i]!,
      model: record,
      evidence,
      metrics,
      audits: spans.length,
      policies: policies[i]!,
      loadSpan: createJudgeSpans({
        peerId: peer.id,
        model: record,
        engine: engine.name,
        host: () => server.host,
        load,
        bytesOf: () => 1,
        maxBytes: 2,
        queued: () => server.queued,
      }),
    })
    closers.push(() => duties.stop())
    const nodeId = registered.find(({ peerId }) => peerId === identity.peerId)!.id
    return Object.assign(self, { nodeId, peer, directory, server, duties, gate, metrics, loads })
  }

  const servers: DutyServer[] = []
  for (const i of spans.keys()) {
    servers.push(await startOne(i))
    if (i === 0) bootstrap = servers[0]!.peer.addrs()
  }
  const client = await joinAs(identities.at(-1), false)
  await pollUntil(
    () => servers.every(({ directory }) => directory.known(model.id).length === spans.length),
    'all servers know each other',
  )

  /** Nothing more to do about the best block. */
  async function settle(): Promise<void> {
    for (let before = -1; before !== chain.head.number;) {
      before = chain.head.number
      await pollUntil(
        () => servers.every(({ duties }) => duties.state !== undefined && duties.state.block >= before),
        `block ${before} is looked at`,
      )
      await Promise.all(servers.map(({ duties }) => duties.idle()))
    }
  }
  const epochNow = () => Math.floor((chain.head.number - slot) / EPOCH_BLOCKS)
  const heard = () => servers.reduce((sum, { peer }) => sum + peer.gossip!.verdicts.accept, 0)

  return {
    chain,
    ledger,
    owner,
    policies,
    subnetId,
    model,
    record,
    engine,
    servers,
    client,
    close,
    nextEpoch: async () => {
      const epoch = epochNow()
      const before = heard()
      // Everybody looks around once more in the epoch that ends.
      chain.produce(Math.max(1, EPOCH_BLOCKS - 2 - ((chain.head.number - slot) % EPOCH_BLOCKS)))
      await settle()
      while (epochNow() === epoch) chain.produce()
      await settle()
      if ((await ledger.electedNode(subnetId, epoch + 1)) === undefined) return
      const live = new Set((await ledger.nodes(subnetId)).map(({ id }) => id))
      const reporters = servers.filter(({ nodeId }) => live.has(nodeId)).length
      await pollUntil(() => heard() >= before + reporters * (reporters - 1), 'all reports arrived')
      for (let n = 0; n < 4; n++) {
        chain.produce()
        await settle()
      }
    },
  }
}

/** An engine's span whose outputs are multiplied. */
function lying(span: EngineSpan, factor: () => number): EngineSpan {
  return Object.create(span, {
    step: {
      value: async (entries: Parameters<EngineSpan['step']>[0]) => {
        const outputs = await span.step(entries)
        const by = factor()
        return by === 1
          ? outputs
          : outputs.map((one) => ({ ...one, data: one.data.map((value) => value * by) }))
      },
    },
  }) as EngineSpan
}
