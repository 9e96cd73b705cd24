import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { encodeFrame, FrameReader } from '../../src/protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { MAX_EARLY_BYTES, MAX_EARLY_STEPS } from '../../src/protocol/limits.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { createChain } from '../../src/session/chain-span.ts'
import type { OpenOptions } from '../../src/session/span-runner.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { rows } from '../../src/tensor/tensor.ts'
import { failureOf, someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from './fake-span.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, openingOf, serveFake, targetOf, TCP, until } from './loopback.ts'

describe('steps before OPENED', () => {
  const servers: Peer[] = []
  let client: Peer
  const closers: (() => Promise<void>)[] = []

  beforeAll(async () => {
    for (let i = 0; i < 2; i++) servers.push(await loopbackPeer({ listen: [TCP] }))
    client = await loopbackPeer()
  })
  afterEach(async () => {
    for (const close of closers.splice(0)) await close()
  })
  afterAll(async () => {
    for (const peer of [client, ...servers]) await peer.close()
  })

  const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'client', software: 'raw', dtypes: ['f32'] }
  const stepFrame = (seq: number, tokens = 1) =>
    encodeFrame(
      { type: 'step', seq, position: seq * tokens, tokens, want: 'all', deadlineMs: 9_000 },
      new Uint8Array(tokens * HIDDEN * 4),
    )

  async function serve(peer: Peer, options: Parameters<typeof fakeSpan>[0] = {}) {
    const span = fakeSpan(options)
    const { service } = await serveFake(peer, span)
    closers.push(() => service.close('the test is over'))
    return { span, service }
  }

  /** All frames in one write, so that the server reads them before it has answered any. */
  async function say(frames: readonly Uint8Array[]) {
    const server = servers[0]!
    const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
    const messages: SpanMessage[] = []
    let closed = false
    const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
    stream.addEventListener('message', ({ data }) =>
      reader.push(data.subarray(), (message) => messages.push(message)),
    )
    stream.addEventListener('remoteCloseWrite', () => (closed = true))
    stream.addEventListener('close', () => (closed = true))
    stream.send(Buffer.concat(frames))
    return { messages, closed: () => closed, close: () => stream.abort(new Error('the test is over')) }
  }

  it('wait for the session and are answered in order after OPENED', async () => {
    await serve(servers[0]!)
    const open = encodeFrame(await openingOf(client, servers[0]!))
    const { messages, close } = await say([
      encodeFrame(hello),
      open,
      stepFrame(0),
      stepFrame(1),
      stepFrame(2),
    ])
    await until(() => messages.filter(({ type }) => type === 'output').length === 3, 'three outputs')
    const types = messages.map(({ type }) => type).filter((type) => type !== 'receipt')
    expect(types).toEqual(['welcome', 'opened', 'output', 'output', 'output'])
    close()
  })

  it.each<[string, Uint8Array[], RegExp]>([
    [
      'in number',
      Array.from({ length: MAX_EARLY_STEPS + 1 }, (_, seq) => stepFrame(seq)),
      /more than 16 steps/,
    ],
    ['in bytes', [stepFrame(0, 64), stepFrame(1, MAX_EARLY_BYTES / (HIDDEN * 4))], /1048576 bytes/],
  ])('are refused when they are too many %s, and leave nothing behind', async (_, steps, reason) => {
    const { span } = await serve(servers[0]!)
    const open = encodeFrame(await openingOf(client, servers[0]!, { maxTokens: 4_096 }))
    const { messages, closed } = await say([encodeFrame(hello), open, ...steps])
    await until(closed, 'the server closes')
    expect(messages.at(-1)).toMatchObject({
      type: 'error',
      code: 'protocol',
      message: expect.stringMatching(reason),
    })
    await until(() => span.kvTokensFree === 4096, 'no lease is held')
  })

  it('are dropped when the opening is refused', async () => {
    const { span, service } = await serve(servers[0]!)
    const open = encodeFrame(await openingOf(client, servers[0]!, { modelId: 'other@1' }))
    const { messages, closed } = await say([encodeFrame(hello), open, stepFrame(0)])
    await until(closed, 'the server closes')
    expect(messages.map(({ type }) => type)).toEqual(['welcome', 'error'])
    expect(service.counters.tokens).toBe(0)
    expect(span.kvTokensFree).toBe(4096)
  })

  const PROMPT = someHidden(300, HIDDEN, 3)

  /** A chain over both servers, with what the two spans are asked for. */
  function chain(options: Partial<Parameters<typeof createChain>[0]> = {}) {
    const spans = servers.map((peer, i) => targetOf(peer, fakeSpan({ start: 2 * i, end: 2 * i + 2 })))
    const records = spans.map((target): ServerRecord => ({
      ...target,
      state: 'online',
      throughput: 1_000,
      freeKvTokens: 4_096,
      sessions: 0,
      precision: 'f32',
      version: '',
      issuedAt: 0,
      expiresAt: Number.MAX_SAFE_INTEGER,
    }))
    return createChain({
      model: { modelId: MODEL_ID, name: 'fake', blockCount: 4, hiddenSize: HIDDEN },
      directory: {
        announce: async () => undefined,
        withdraw: async () => undefined,
        servers: async () => records,
        models: async () => [],
      },
      connect: (server) => connectRemoteSpan(client, server, { hiddenSize: HIDDEN }),
      ...options,
    })
  }

  async function answer(open: Partial<OpenOptions>, options: Parameters<typeof chain>[0] = {}) {
    const session = await chain(options).open({ maxTokens: 400, ...open })
    const first = await session.step(PROMPT, { want: 'last' })
    const second = await session.step(first)
    const { position } = session
    await session.close()
    return { bits: [...first.data, ...second.data], position }
  }

  it('of a chain give the bits that steps after the opening give', async () => {
    const served = await Promise.all(servers.map((peer, i) => serve(peer, { start: 2 * i, end: 2 * i + 2 })))
    const later = await answer({})
    expect(await answer({ prompt: PROMPT })).toEqual(later)
    expect(await answer({ prompt: PROMPT }, { push: false })).toEqual(later)
    expect(await answer({ prompt: PROMPT }, { chunkTokens: 65 })).toEqual(later)
    expect(later.position).toBe(301)
    for (const { span } of served) await until(() => span.kvTokensFree === 4096, 'the lease is free')
  })

  it('are computed although nobody has called step', async () => {
    const held = Promise.withResolvers<void>()
    const steps: number[] = []
    const gate = async (entries: readonly { hidden: { shape: readonly number[] } }[]): Promise<void> => {
      steps.push(entries[0]!.hidden.shape[0]!)
      await held.promise
    }
    await serve(servers[0]!, { start: 0, end: 2, gate })
    await serve(servers[1]!, { start: 2, end: 4 })
    const session = await chain().open({ maxTokens: 400, prompt: PROMPT })
    await until(() => steps.length > 0, 'the first server computes')
    held.resolve()
    await session.step(PROMPT, { want: 'last' })
    await session.close()
  })

  it('end with the session, or with the signal of the step that waits for them', async () => {
    const held = Promise.withResolvers<void>()
    const [a, b] = await Promise.all([
      serve(servers[0]!, { start: 0, end: 2, gate: () => held.promise }),
      serve(servers[1]!, { start: 2, end: 4 }),
    ])
    const closed = await chain().open({ maxTokens: 400, prompt: PROMPT })
    await closed.close()
    const stopped = await chain().open({ maxTokens: 400, prompt: PROMPT })
    const stop = new AbortController()
    const step = stopped.step(PROMPT, { want: 'last', signal: stop.signal })
    stop.abort()
    expect(await failureOf(step)).toBe('cancelled')
    await stopped.close()
    held.resolve()
    for (const { span } of [a, b]) await until(() => span.kvTokensFree === 4096, 'the lease is free')
  })

  it('must be the step that comes first', async () => {
    await serve(servers[0]!, { start: 0, end: 2 })
    await serve(servers[1]!, { start: 2, end: 4 })
    const session = await chain().open({ maxTokens: 400, prompt: PROMPT })
    expect(await failureOf(session.step(rows(PROMPT, 0, 5)))).toBe('bad_request')
    expect((await session.step(PROMPT, { want: 'last' })).shape).toEqual([1, HIDDEN])
    await session.close()
  })

  it('of a chain whose opening is refused are sent again elsewhere or fail as the opening did', async () => {
    await serve(servers[0]!, { start: 0, end: 2 })
    await serve(servers[1]!, { start: 2, end: 4, kvTokens: 100 })
    expect(await failureOf(chain({ openWaitMs: 0 }).open({ maxTokens: 400, prompt: PROMPT }))).toBe(
      'capacity',
    )
  })
})
