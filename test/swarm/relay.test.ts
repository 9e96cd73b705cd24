import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { browserTransports } from '../../src/swarm/browser-transports.ts'
import { createDhtDirectory, type DhtDirectory } from '../../src/swarm/dht-directory.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { relayServer } from '../../src/swarm/relay.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from './fake-span.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, serveFake, targetOf, TCP, until, WS } from './loopback.ts'

describe('a server behind a relay, as a tab is', () => {
  let relay: Peer
  let hidden: Peer
  let client: Peer
  let served: DhtDirectory
  beforeAll(async () => {
    relay = await loopbackPeer({ listen: [TCP, WS], relay: relayServer() })
    served = await createDhtDirectory(relay, { serve: true })
    const bootstrap = relay.addrs()
    const sockets = bootstrap.filter((address) => address.includes('/ws'))
    hidden = await loopbackPeer({
      transports: browserTransports(),
      mode: 'client',
      listen: sockets.map((address) => `${address}/p2p-circuit`),
      bootstrap: sockets,
    })
    client = await loopbackPeer({ bootstrap })
  })
  afterAll(async () => {
    await Promise.all([client.close(), hidden.close()])
    await served.close()
    await relay.close()
  })

  it('gets an address that leads through the relay', async () => {
    await until(() => hidden.addrs().length > 0, 'the relay gives it an address')
    for (const address of hidden.addrs()) {
      expect(address).toContain(`/p2p/${relay.id}/p2p-circuit/p2p/${hidden.id}`)
    }
  })

  it('serves sessions beyond the limits of relays: more than 128 KiB', async () => {
    const span = fakeSpan({ kvTokens: 4096 })
    const { service } = await serveFake(hidden, span)
    const runner = connectRemoteSpan(client, targetOf(hidden, span), { hiddenSize: HIDDEN })
    const session = await runner.open({ maxTokens: 4096 })
    for (let step = 0; step < 40; step++) {
      const output = await session.step(someHidden(64, HIDDEN, step))
      expect(output.shape).toEqual([64, HIDDEN])
    }
    expect(session.position).toBe(40 * 64)
    await session.close()
    await service.close('done')
  })

  it('is found in the directory', async () => {
    const own = await createDhtDirectory(hidden, { serve: false })
    const asked = await createDhtDirectory(client, { serve: false })
    const now = Date.now()
    const model = { modelId: MODEL_ID, name: 'fake', blockCount: 8, hiddenSize: HIDDEN }
    const record = {
      ...targetOf(hidden, fakeSpan()),
      state: 'online' as const,
      throughput: 1,
      freeKvTokens: 1,
      sessions: 0,
      precision: 'f32',
      version: 'test',
      issuedAt: now,
      expiresAt: now + 30_000,
    }
    await until(async () => {
      await own.announce({ ...record, issuedAt: Date.now() }, model)
      const [found] = await asked.servers(MODEL_ID)
      return found?.addrs.some((address) => address.includes('/p2p-circuit/')) === true
    }, 'the record arrives')
    await Promise.all([own.close(), asked.close()])
  })
})
