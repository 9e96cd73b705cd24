import { chainSpec } from '@substrate/connect-known-chains/paseo'
import { compileBytecode } from 'smoldot/bytecode'
import { type Client, type SmoldotBytecode, startWithBytecode } from 'smoldot/no-auto-bytecode'
import { afterEach, describe, expect, it } from 'vitest'
import { RECORDS_TOPIC } from '../../src/protocol/ids.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { gossip } from '../../src/swarm/gossip.ts'
import { relayServer } from '../../src/swarm/relay.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { servePasses } from '../../src/swarm/serve-passes.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from './fake-span.ts'
import { gatedSwarm, type GatedSwarm } from './gated.ts'
import { HIDDEN, serveFake, targetOf, TCP, until, WS } from './loopback.ts'

const swarms: GatedSwarm[] = []
const clients: LightClient[] = []
afterEach(async () => {
  for (const client of clients.splice(0)) await client.stop()
  for (const swarm of swarms.splice(0)) await swarm.close()
})

/** A light client of another project, in Rust, that takes this server for a full node of its chain. */
interface LightClient {
  /** Peer ids of its own that it dialled with; it takes a new one now and then. */
  readonly ids: Set<string>
  /** Connections whose noise and yamux handshakes were done. */
  readonly handshakes: () => number
  readonly ended: () => number
  /** Peers that it counts as its own, as its JSON-RPC says. */
  peers(): Promise<number>
  stop(): Promise<void>
}

async function lightClient(bytecode: SmoldotBytecode, bootNodes: readonly string[]): Promise<LightClient> {
  const ids = new Set<string>()
  let handshakes = 0
  let ended = 0
  const client: Client = startWithBytecode({
    bytecode: Promise.resolve(bytecode),
    forbidTcp: true,
    forbidWss: true,
    forbidNonLocalWs: true,
    maxLogLevel: 4,
    logCallback: (_level, _target, message) => {
      if (message.startsWith('handshake-finished')) handshakes++
      if (message.startsWith('connection-shutdown')) ended++
      const id = /local_peer_id=(\w+)/.exec(message)?.[1]
      if (id !== undefined) ids.add(id)
    },
  })
  const spec: object = JSON.parse(chainSpec)
  const chain = await client.addChain({
    chainSpec: JSON.stringify({ ...spec, bootNodes, telemetryEndpoints: null }),
  })
  const self: LightClient = {
    ids,
    handshakes: () => handshakes,
    ended: () => ended,
    peers: async () => {
      chain.sendJsonRpc('{"jsonrpc":"2.0","id":1,"method":"system_health","params":[]}')
      const { result }: { result: { peers: number } } = JSON.parse(await chain.nextJsonRpcResponse())
      return result.peers
    },
    stop: () => client.terminate(),
  }
  clients.push(self)
  return self
}

const ATTACKERS = 12
/** Fewer than the attackers, so that some are refused at once and some after their time to show a pass. */
const MAX_PENDING = 4

describe('smoldot, a foreign libp2p without stake', () => {
  it('shakes hands, is refused with a reason, and gets no DHT entry, relay slot, gossip, pass or session', async () => {
    const swarm = gatedSwarm()
    swarms.push(swarm)
    const server = await swarm.peer({
      listen: [WS, TCP],
      relay: relayServer(),
      gossip: gossip(),
      gateOptions: { pending: { max: MAX_PENDING, waitMs: 1_000 } },
    })
    const directory = await createDhtDirectory(server, { serve: true })
    const span = fakeSpan()
    const { service } = await serveFake(server, span)
    const gate = swarm.gateOf(server)
    const passes = await servePasses(server, { gate, issue: {} })
    await directory.announce(serverRecord(server.id, Date.now()), MODEL)
    const tcp = server.addrs().filter((addr) => !addr.includes('/ws'))
    const friend = await swarm.peer({ bootstrap: tcp, gossip: gossip() })
    const news = friend.gossip!.join(RECORDS_TOPIC, { maxBytes: 100, take: () => 'ignore' })
    const session = await connectRemoteSpan(friend, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    await until(() => news.listeners === 1, 'the staked peer is in gossip')

    const bytecode = await compileBytecode()
    const webSocket = server.addrs().filter((addr) => addr.includes('/ws'))
    expect(webSocket).toHaveLength(1)
    const attackers: LightClient[] = []
    for (let i = 0; i < ATTACKERS; i++) attackers.push(await lightClient(bytecode, webSocket))
    await until(() => attackers.every((one) => one.ended() > 0), 'each came and was cut', 30_000)
    // TCP, WebSocket, noise and yamux: they are who they say, so each has a peer id that the gate could ask for.
    expect(attackers.filter((one) => one.handshakes() > 0).length).toBeGreaterThanOrEqual(MAX_PENDING)
    const ids = new Set(attackers.flatMap((one) => [...one.ids]))
    expect(ids.size).toBeGreaterThanOrEqual(ATTACKERS)

    const refused = (key: string): number => gate.refusals.get(key) ?? 0
    await until(
      () => refused('connect late') + refused('connect stake') >= ATTACKERS,
      'each refusal is counted',
    )
    expect(refused('connect late')).toBeGreaterThan(0)
    for (const id of ids) {
      expect(gate.check(id, 'connect')).toEqual({
        ok: false,
        reason: expect.stringContaining('has no stake'),
      })
      expect(server.measures().has(id)).toBe(false)
    }
    expect(gate.pending.size).toBe(0)
    for (const one of attackers) expect(await one.peers()).toBe(0)

    // Nothing of them is left: in the DHT, in the directory, among those who hear news, in sessions and accounts.
    const known: string[] = []
    for await (const id of friend.closestPeers(new Uint8Array(32), AbortSignal.timeout(2_000))) known.push(id)
    expect(known.filter((id) => ids.has(id))).toEqual([])
    expect((await directory.servers(MODEL.modelId)).map(({ peerId }) => peerId)).toEqual([server.id])
    expect(news.listeners).toBe(1)
    expect(passes.issued).toBe(0)
    expect(gate.passes.uses()).toEqual([])
    expect(service.counters.sessions).toBe(1)
    expect(span.kvTokensFree).toBe(4096 - 64)
    // Whoever has stake was served all the time.
    expect((await session.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
    await session.close()
    await directory.close()
  }, 60_000)
})
