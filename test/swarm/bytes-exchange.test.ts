import { afterEach, describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { bytesRefusal, MAX_PART_BYTES, parseBytesMessage } from '../../src/protocol/bytes-messages.ts'
import { encodeFrame } from '../../src/protocol/frame.ts'
import { type AnswerOptions, answerBytes, askBytes } from '../../src/swarm/bytes-exchange.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { mutate, seededRandom, withoutStackTraces } from '../protocol/random.ts'
import { gatedSwarm } from './gated.ts'
import { loopbackPeer, TCP, until } from './loopback.ts'

const PROTOCOL = '/chorale/test/1'
const MIB = 2 ** 20

describe('answerBytes and askBytes', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })
  async function pair(): Promise<readonly [Peer, Peer]> {
    const server = await loopbackPeer({ listen: [TCP] })
    closers.push(() => server.close())
    const client = await loopbackPeer({ bootstrap: server.addrs() })
    closers.push(() => client.close())
    return [server, client]
  }
  async function serve(peer: Peer, options: Partial<AnswerOptions> = {}) {
    const asked: string[] = []
    await answerBytes(peer, {
      protocol: PROTOCOL,
      place: 'content',
      maxRequestBytes: 32,
      perSecond: 1_000,
      burst: 1_000,
      maxAnswers: 4,
      answer: async (from, request) => {
        asked.push(from)
        return await Promise.resolve(request[0] === 0 ? undefined : new Uint8Array(1_000).fill(request[0]!))
      },
      ...options,
    })
    return asked
  }
  const ask = (client: Peer, server: Peer, request: Uint8Array, maxAnswerBytes = 40 * MIB) =>
    askBytes(client, server.id, request, { protocol: PROTOCOL, addrs: server.addrs(), maxAnswerBytes })

  it('brings what there is, also without a connection before, and says when there is none', async () => {
    const [server] = await pair()
    const asked = await serve(server)
    const stranger = await loopbackPeer()
    closers.push(() => stranger.close())
    expect(await ask(stranger, server, Uint8Array.of(7))).toEqual(new Uint8Array(1_000).fill(7))
    expect(await ask(stranger, server, Uint8Array.of(0))).toBeUndefined()
    expect(asked).toEqual([stranger.id, stranger.id])
  })

  it('an answer of 32 MiB arrives whole, in parts', async () => {
    const [server, client] = await pair()
    const big = new Uint8Array(32 * MIB + 5)
    for (let at = 0; at < big.length; at += 4_099) big[at] = at & 255
    await serve(server, { answer: () => Promise.resolve(big) })
    const got = await ask(client, server, Uint8Array.of(1))
    expect(Buffer.compare(got!, big)).toBe(0)
  })

  it('an answer that is longer than allowed is cut off, whoever sends it', async () => {
    const [server, client] = await pair()
    await serve(server, { answer: () => Promise.resolve(new Uint8Array(3 * MAX_PART_BYTES)) })
    await expect(ask(client, server, Uint8Array.of(1), 2 * MAX_PART_BYTES)).rejects.toThrow(
      /more than 1048576/,
    )
  })

  it('refuses long questions, too many of them, and too many answers at once', async () => {
    const [server, client] = await pair()
    let release = (): void => undefined
    const held = new Promise<Uint8Array>((resolve) => (release = () => resolve(Uint8Array.of(1))))
    const asked = await serve(server, { perSecond: 0.01, burst: 4, maxAnswers: 2, answer: () => held })
    await expect(ask(client, server, new Uint8Array(33))).rejects.toThrow()
    const waiting = [ask(client, server, Uint8Array.of(1)), ask(client, server, Uint8Array.of(1))]
    await expect(ask(client, server, Uint8Array.of(1))).rejects.toMatchObject({
      code: 'capacity',
      retryAfterMs: 1_000,
    })
    release()
    expect(await Promise.all(waiting)).toEqual([Uint8Array.of(1), Uint8Array.of(1)])
    await ask(client, server, Uint8Array.of(1))
    await expect(ask(client, server, Uint8Array.of(1))).rejects.toThrow(/too many questions/)
    expect(asked).toEqual([])
  })

  it('tells errors of its own, and nothing of what goes wrong inside', async () => {
    const [server, client] = await pair()
    await serve(server, {
      answer: (_, request) =>
        Promise.reject(
          request[0] === 1 ? new ChoraleError('refused', 'no accountant') : new Error('at line 5'),
        ),
    })
    await expect(ask(client, server, Uint8Array.of(1))).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('no accountant'),
    })
    await expect(ask(client, server, Uint8Array.of(2))).rejects.toMatchObject({ code: 'internal' })
    await expect(ask(client, server, Uint8Array.of(2))).rejects.not.toThrow(/line 5/)
  })

  it('a peer that never answers, or answers nonsense, costs its time-out', async () => {
    const [server, client] = await pair()
    await server.handle(PROTOCOL, () => undefined, 8)
    const options = { protocol: PROTOCOL, maxAnswerBytes: MIB, timeoutMs: 300 }
    await expect(askBytes(client, server.id, Uint8Array.of(1), options)).rejects.toMatchObject({
      code: 'timeout',
    })
    const abort = new AbortController()
    const waiting = askBytes(client, server.id, Uint8Array.of(1), { ...options, signal: abort.signal })
    setTimeout(() => abort.abort(), 20)
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' })
    await server.unhandle(PROTOCOL)
    await server.handle(
      PROTOCOL,
      (stream) => stream.addEventListener('message', () => stream.send(encodeFrame({ type: 'ask' }))),
      8,
    )
    await expect(askBytes(client, server.id, Uint8Array.of(1), options)).rejects.toMatchObject({
      code: 'protocol',
    })
  })

  it('both sides want stake', async () => {
    const swarm = gatedSwarm()
    closers.push(() => swarm.close())
    const server = await swarm.peer({ listen: [TCP] })
    const staked = await swarm.peer({ bootstrap: server.addrs() })
    const low = await swarm.peer({ node: { class: 'Registered' }, gated: false, bootstrap: server.addrs() })
    const asked = await serve(server)
    await serve(low)
    expect(await ask(staked, server, Uint8Array.of(1))).toHaveLength(1_000)
    await expect(ask(low, server, Uint8Array.of(1))).rejects.toMatchObject({ code: 'refused' })
    await expect(ask(server, low, Uint8Array.of(1))).rejects.toMatchObject({ code: 'refused' })
    expect(asked).toEqual([staked.id])
    expect(swarm.gateOf(server).refusals.get('content stake')).toBe(1)
    swarm.unstake(staked)
    await until(() => !swarm.gateOf(server).staked(staked.id, 'gossip').ok, 'its stake is gone')
    await expect(ask(staked, server, Uint8Array.of(1))).rejects.toThrow()
    expect(asked).toHaveLength(1)
  })
})

describe('parseBytesMessage', () => {
  const messages = [
    { type: 'ask' },
    { type: 'part', more: true },
    { type: 'absent' },
    bytesRefusal('capacity', 'later', 5.5),
  ].map((message) => encodeCbor(message))

  it('reads what is sent and names what is wrong', () => {
    expect(parseBytesMessage(messages[1]!, 3)).toEqual({ type: 'part', more: true })
    expect(parseBytesMessage(messages[3]!, 0)).toEqual({
      type: 'refused',
      code: 'capacity',
      message: 'later',
      retryAfterMs: 6,
    })
    expect(() => parseBytesMessage(messages[1]!, 0)).toThrow(/empty part/)
    expect(() => parseBytesMessage(messages[1]!, MAX_PART_BYTES + 1)).toThrow(/at most 524288/)
    expect(() => parseBytesMessage(messages[2]!, 1)).toThrow(/at most 0/)
    expect(() => parseBytesMessage(encodeCbor({ type: 'other' }), 0)).toThrow(/unknown message/)
    expect(bytesRefusal('ledger', 'inside').code).toBe('internal')
  })

  it('takes 10^5 broken headers as protocol errors', () => {
    const random = seededRandom(61)
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        try {
          parseBytesMessage(mutate(messages[i % messages.length]!, random), random(3))
        } catch (error) {
          if (!(error instanceof ChoraleError) || error.code !== 'protocol') throw error
        }
      }
    })
  })
})
