import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { EngineSpan } from '../../src/engine/engine.ts'
import { encodeFrame, FrameReader } from '../../src/protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan, type RemoteSpanOptions } from '../../src/swarm/remote-span.ts'
import { rows } from '../../src/tensor/tensor.ts'
import { failureOf, someHidden, spanRunnerContract } from '../contract/span-runner.ts'
import { fakeSpan, fakeStep } from './fake-span.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, openingOf, serveFake, targetOf, TCP, until, WS } from './loopback.ts'

for (const [name, listen] of [
  ['TCP', TCP],
  ['WebSocket', WS],
] as const) {
  spanRunnerContract(`remote span over ${name}`, async () => {
    const span = fakeSpan({ kvTokens: 32 })
    const server = await loopbackPeer({ listen: [listen] })
    // Steps longer than 3 tokens are cut, so the contract sees pipelined chunks too.
    await serveFake(server, span, { maxStepTokens: 3 })
    const client = await loopbackPeer()
    return {
      runner: connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }),
      kvTokens: 32,
      freeTokens: () => span.kvTokensFree,
      close: async () => {
        await client.close()
        await server.close()
      },
    }
  })
}

describe('connectRemoteSpan and serveSpan', () => {
  let server: Peer
  let client: Peer
  const closers: (() => Promise<void>)[] = []

  beforeAll(async () => {
    server = await loopbackPeer({ listen: [TCP] })
    client = await loopbackPeer()
  })
  afterEach(async () => {
    for (const close of closers.splice(0)) await close()
  })
  afterAll(async () => {
    await client.close()
    await server.close()
  })

  async function serve(span: EngineSpan, options: Parameters<typeof serveFake>[2] = {}) {
    const served = await serveFake(server, span, options)
    closers.push(() => served.service.close('the test is over'))
    return served
  }
  const connect = (span: EngineSpan, options: Partial<RemoteSpanOptions> = {}): SpanRunner =>
    connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN, ...options })

  /** Frames written by hand to the server, and what it says back. */
  async function raw(): Promise<{
    send: (bytes: Uint8Array) => void
    messages: SpanMessage[]
    closed: () => boolean
  }> {
    const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
    const messages: SpanMessage[] = []
    let closed = false
    const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
    stream.addEventListener('message', ({ data }) =>
      reader.push(data.subarray(), (message) => messages.push(message)),
    )
    stream.addEventListener('close', () => (closed = true))
    stream.addEventListener('remoteCloseWrite', () => (closed = true))
    return { send: (bytes) => void stream.send(bytes), messages, closed: () => closed }
  }
  const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'client', software: 'raw', dtypes: ['f32'] }
  const open = { type: 'open', body: new Uint8Array(9), signature: new Uint8Array(64) }
  const step = { type: 'step', seq: 0, position: 0, tokens: 1, want: 'all', deadlineMs: 9_000 }
  const payload = new Uint8Array(HIDDEN * 4)

  it('f32 on the wire changes no bit, bf16 and f16 round as they should', async () => {
    const span = fakeSpan()
    await serve(span)
    const hidden = {
      shape: [1, HIDDEN] as const,
      data: Float32Array.from({ length: HIDDEN }, (_, i) => Math.sin(i)),
    }
    const exact = fakeStep([], hidden)
    for (const [dtype, margin] of [
      ['f32', 0],
      ['bf16', 2 ** -8],
      ['f16', 2 ** -11],
    ] as const) {
      const session = await connect(span, { dtype }).open({ maxTokens: 4 })
      const output = await session.step(hidden)
      const worst = Math.max(...output.data.map((value, i) => Math.abs(value - exact.data[i]!)))
      expect(worst, dtype).toBeLessThanOrEqual(margin * 2)
      expect(worst > 0, dtype).toBe(dtype !== 'f32')
      await session.close()
    }
  })

  it('the route names the peer and the engine the server said', async () => {
    const span = fakeSpan()
    await serve(span)
    const session = await connect(span).open({ maxTokens: 4 })
    expect(session.route).toEqual([{ peer: server.id, engine: 'fake', start: 0, end: 4 }])
    await session.close()
  })

  it('refusals keep their code: wrong model, wrong span, too many sessions, no room', async () => {
    const span = fakeSpan({ kvTokens: 100 })
    const { service } = await serve(span, { maxSessions: 1 })
    const target = targetOf(server, span)
    const options = { hiddenSize: HIDDEN }
    const other = connectRemoteSpan(client, { ...target, modelId: 'x@2' }, options)
    await expect(other.open({ maxTokens: 4 })).rejects.toMatchObject({ code: 'not_found' })
    const part = connectRemoteSpan(client, { ...target, end: 2 }, options)
    await expect(part.open({ maxTokens: 4 })).rejects.toMatchObject({
      code: 'not_supported',
      message: expect.stringContaining('runs blocks 0:4 as one, not 0:2'),
    })
    await expect(connect(span).open({ maxTokens: 101 })).rejects.toMatchObject({ code: 'capacity' })
    const first = await connect(span).open({ maxTokens: 50 })
    await expect(connect(span).open({ maxTokens: 4 })).rejects.toMatchObject({
      code: 'capacity',
      message: expect.stringContaining('1 of 1 sessions'),
    })
    await first.close()
    expect(service.counters.refusals.get('capacity')).toBe(2)
    const narrow = connectRemoteSpan(client, target, { hiddenSize: HIDDEN / 2 })
    await until(() => span.kvTokensFree === 100, 'the lease is free')
    await expect(narrow.open({ maxTokens: 4 })).rejects.toMatchObject({ code: 'protocol' })
  })

  it('a peer of another protocol version is told which one is older', async () => {
    await serve(fakeSpan())
    const { send, messages, closed } = await raw()
    send(encodeFrame({ ...hello, version: 4, software: 'chorale/9' }))
    await until(closed, 'the server closes')
    expect(messages).toMatchObject([
      {
        type: 'error',
        code: 'not_supported',
        message: expect.stringMatching(/chorale\/9 speaks version 4 .* version 3/),
      },
    ])
  })

  it.each<[string, Uint8Array[], RegExp]>([
    ['open before hello', [encodeFrame(open)], /open before hello/],
    ['hello twice', [encodeFrame(hello), encodeFrame(hello)], /hello twice/],
    ['a step before open', [encodeFrame(hello), encodeFrame(step, payload)], /step before open/],
    [
      'a message of the server',
      [encodeFrame({ type: 'rolledback', seq: 0, position: 0 })],
      /can't send rolledback/,
    ],
    ['random bytes', [Uint8Array.from({ length: 100 }, (_, i) => i * 37)], /^$/],
  ])('garbage ends one stream only: %s', async (_, frames, reason) => {
    const span = fakeSpan()
    const { service } = await serve(span)
    const healthy = await connect(span).open({ maxTokens: 8 })
    const { send, messages, closed } = await raw()
    for (const frame of frames) send(frame)
    await until(closed, 'the server closes')
    const last = messages.at(-1)
    expect(last?.type === 'error' ? last.message : '').toMatch(reason)
    expect((await healthy.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
    await healthy.close()
    await until(() => service.counters.refusals.get('protocol') === 1, 'it is counted')
  })

  it.each<[string, object, Uint8Array, RegExp]>([
    ['out of order', { ...step, seq: 1 }, payload, /step 1 at 0, expected was 0 at 0/],
    ['at another position', { ...step, position: 3 }, payload, /step 0 at 3, expected was 0 at 0/],
    ['with too few bytes', step, payload.subarray(4), /carries 252 bytes instead of 256/],
    ['with too many tokens', { ...step, tokens: 65 }, payload, /step of 65 tokens \(at most 64\)/],
    ['past its lease', { ...step, tokens: 9 }, new Uint8Array(9 * HIDDEN * 4), /passes the lease of 8/],
  ])('a step %s frees the lease', async (_, header, bytes, reason) => {
    const span = fakeSpan()
    await serve(span)
    const { send, messages, closed } = await raw()
    send(encodeFrame(hello))
    send(encodeFrame(await openingOf(client, server)))
    await until(() => messages.at(-1)?.type === 'opened', 'the session opens')
    expect(span.kvTokensFree).toBe(4096 - 8)
    send(encodeFrame(header, bytes))
    await until(closed, 'the server closes')
    expect(messages.at(-1)).toMatchObject({
      type: 'error',
      code: 'protocol',
      message: expect.stringMatching(reason),
    })
    await until(() => span.kvTokensFree === 4096, 'the lease is free')
  })

  it('a stream that says nothing is closed after the handshake time', async () => {
    const { service } = await serve(fakeSpan(), { handshakeMs: 100 })
    const { messages, closed } = await raw()
    await until(closed, 'the server closes')
    expect(messages).toMatchObject([{ type: 'error', code: 'timeout' }])
    await until(() => service.streams === 0, 'no stream is left')
  })

  it('a client that vanishes frees its lease at once, also while its step runs', async () => {
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    let stepping = false
    const span = fakeSpan({
      gate: () => {
        stepping = true
        return held
      },
    })
    await serve(span)
    const leaving = await loopbackPeer()
    const runner = connectRemoteSpan(leaving, targetOf(server, span), { hiddenSize: HIDDEN })
    const idle = await runner.open({ maxTokens: 1000 })
    const busy = await runner.open({ maxTokens: 500 })
    const lost = failureOf(busy.step(someHidden(2, HIDDEN, 1)))
    await until(() => stepping, 'the step runs')
    await leaving.close()
    expect(await lost).toBe('session_lost')
    expect(await failureOf(idle.step(someHidden(1, HIDDEN, 1)))).toBe('session_lost')
    await until(() => span.kvTokensFree === 4096 - 500, 'the idle lease is free')
    release()
    await until(() => span.kvTokensFree === 4096, 'the busy lease is free')
  })

  it('cancelling a step frees the lease and is not told as an error of the server', async () => {
    const span = fakeSpan({ gate: () => new Promise((resolve) => setTimeout(resolve, 50)) })
    const { service } = await serve(span)
    const session = await connect(span).open({ maxTokens: 500 })
    const stop = new AbortController()
    const failed = failureOf(session.step(someHidden(2, HIDDEN, 1), { signal: stop.signal }))
    stop.abort()
    expect(await failed).toBe('cancelled')
    await until(() => span.kvTokensFree === 4096, 'the lease is free')
    await until(() => service.streams === 0, 'the stream is gone')
    expect([...service.counters.refusals]).toEqual([])
  })

  it('a server that stalls is given up after the step time', async () => {
    const span = fakeSpan({ gate: () => new Promise((resolve) => setTimeout(resolve, 2_000)) })
    await serve(span)
    const timeouts = { stepMs: 200, stepPerTokenMs: 0 }
    const session = await connect(span, { timeouts }).open({ maxTokens: 8 })
    const started = performance.now()
    const steps = [1, 2].map((seed) => failureOf(session.step(someHidden(1, HIDDEN, seed))))
    expect(await Promise.all(steps)).toEqual(['timeout', 'timeout'])
    expect(performance.now() - started).toBeLessThan(1_500)
    expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('timeout')
  })

  it('a server that leaves ends its sessions with session_lost', async () => {
    const span = fakeSpan()
    const { service } = await serve(span)
    const session = await connect(span).open({ maxTokens: 8 })
    await session.step(someHidden(1, HIDDEN, 1))
    await service.close('the server left')
    await expect(session.step(someHidden(1, HIDDEN, 1))).rejects.toMatchObject({ code: 'session_lost' })
    await until(() => span.kvTokensFree === 4096, 'the lease is free')
  })

  it('an engine that fails is reported by its code, an unknown failure without its insides', async () => {
    const span = fakeSpan({
      gate: () => {
        throw new Error('secret path /home/x')
      },
    })
    await serve(span)
    const session = await connect(span).open({ maxTokens: 8 })
    const failed = session.step(someHidden(1, HIDDEN, 1))
    await expect(failed).rejects.toMatchObject({
      code: 'internal',
      message: expect.not.stringContaining('secret'),
    })
  })

  it('heartbeats keep an idle session, silence ends it', async () => {
    const span = fakeSpan()
    await serve(span, { heartbeatMs: 50, silenceMs: 200 })
    // This client pings, and answers pings, often enough.
    const timeouts = { heartbeatMs: 50, silenceMs: 400 }
    const session = await connect(span, { timeouts }).open({ maxTokens: 8 })
    // This one never answers.
    const mute = await raw()
    mute.send(encodeFrame(hello))
    mute.send(encodeFrame(await openingOf(client, server)))
    await until(mute.closed, 'the mute client is dropped')
    await until(() => mute.messages.filter(({ type }) => type === 'ping').length > 1, 'it was asked before')
    expect(await session.step(someHidden(1, HIDDEN, 1))).toBeDefined()
    await session.close()
  })

  it('pings without reading get no queue of pongs', async () => {
    await serve(fakeSpan())
    const { send, messages } = await raw()
    const pings = Buffer.concat(Array.from({ length: 2_000 }, () => encodeFrame({ type: 'ping' })))
    send(pings)
    await until(() => messages.length > 0, 'the server answers')
    expect(messages.every(({ type }) => type === 'pong')).toBe(true)
  })

  it('200 streams of random bytes leave the server as it was', async () => {
    const span = fakeSpan()
    const { service } = await serve(span)
    const healthy = await connect(span).open({ maxTokens: 64 })
    for (let i = 0; i < 200; i++) {
      const { send } = await raw()
      const bytes = crypto.getRandomValues(new Uint8Array(64 + (i % 200)))
      // Half of them get past the frame prefix.
      if (i % 2 === 0) new DataView(bytes.buffer).setUint32(0, 40, true)
      if (i % 2 === 0) new DataView(bytes.buffer).setUint32(4, 0, true)
      send(bytes)
      if (i % 50 === 0) await healthy.step(rows(someHidden(4, HIDDEN, i), 0, 1))
    }
    await until(() => service.streams === 1, 'the garbage streams are gone')
    expect(span.kvTokensFree).toBe(4096 - 64)
    await healthy.close()
  })
})

describe('a hostile server', () => {
  const answers: Record<string, (message: SpanMessage) => Uint8Array[]> = {}
  const opened = {
    type: 'opened',
    leaseTokens: 8,
    maxStepTokens: 8,
    hiddenSize: HIDDEN,
    dtype: 'f32',
    engine: 'x',
    load: { sessions: 1, freeKvTokens: 1, queued: 0 },
  }
  const output = { type: 'output', seq: 0, position: 1, serverMs: 1 }
  const good = new Uint8Array(HIDDEN * 4)
  const nan = Uint8Array.from(good)
  nan.set([0, 0, 0xc0, 0x7f], 40)

  let server: Peer
  let client: Peer
  beforeAll(async () => {
    client = await loopbackPeer()
    server = await loopbackPeer({ listen: [TCP] })
    await server.handle(
      SPAN_PROTOCOL,
      (stream) => {
        const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
        stream.addEventListener('message', ({ data }) =>
          reader.push(data.subarray(), (message) => {
            for (const bytes of answers[message.type]?.(message) ?? []) stream.send(bytes)
          }),
        )
      },
      100,
    )
  })
  afterAll(async () => {
    await client.close()
    await server.close()
  })

  it.each<[string, Uint8Array[]]>([
    ['too few rows', [encodeFrame(output, good.subarray(0, 100))]],
    ['too many rows', [encodeFrame(output, new Uint8Array(2 * good.length))]],
    ['no rows', [encodeFrame(output)]],
    ['a value that is not finite', [encodeFrame(output, nan)]],
    ['another seq', [encodeFrame({ ...output, seq: 1 }, good)]],
    ['another position', [encodeFrame({ ...output, position: 2 }, good)]],
    ['a rollback nobody asked for', [encodeFrame({ type: 'rolledback', seq: 0, position: 0 })]],
    ['a message of clients', [encodeFrame({ type: 'close' })]],
    ['random bytes', [Uint8Array.from({ length: 64 }, (_, i) => 255 - i)]],
    [
      'a second welcome',
      [
        encodeFrame({
          ...opened,
          type: 'welcome',
          version: PROTOCOL_VERSION,
          role: 'server',
          software: 'x',
          dtypes: [],
        }),
      ],
    ],
  ])('that answers a step with %s ends the session with protocol', async (_, frames) => {
    answers['hello'] = () => [
      encodeFrame({ type: 'welcome', version: PROTOCOL_VERSION, role: 'server', software: 'x', dtypes: [] }),
    ]
    answers['open'] = () => [encodeFrame(opened)]
    answers['step'] = () => frames
    const target = {
      peerId: server.id,
      addrs: server.addrs(),
      modelId: MODEL_ID,
      start: 0,
      end: 4,
      engine: '?',
    }
    const session = await connectRemoteSpan(client, target, { hiddenSize: HIDDEN }).open({ maxTokens: 8 })
    const steps = [1, 2].map((seed) => failureOf(session.step(someHidden(1, HIDDEN, seed))))
    expect(await Promise.all(steps)).toEqual(['protocol', 'protocol'])
    expect(session.position).toBe(0)
  })

  it.each<[string, object[]]>([
    ['another version', [{ type: 'welcome', version: 7, role: 'server', software: 'x', dtypes: [] }]],
    ['opened before welcome', [opened]],
  ])('that answers hello with %s is refused', async (_, frames) => {
    answers['hello'] = () => frames.map((frame) => encodeFrame(frame))
    const target = {
      peerId: server.id,
      addrs: server.addrs(),
      modelId: MODEL_ID,
      start: 0,
      end: 4,
      engine: '?',
    }
    const runner = connectRemoteSpan(client, target, { hiddenSize: HIDDEN })
    await expect(runner.open({ maxTokens: 8 })).rejects.toMatchObject({ code: 'protocol' })
  })

  it('that never answers hello costs the open time, one that does not listen is unreachable', async () => {
    answers['hello'] = () => []
    answers['open'] = () => []
    const target = {
      peerId: server.id,
      addrs: server.addrs(),
      modelId: MODEL_ID,
      start: 0,
      end: 4,
      engine: '?',
    }
    const options = { hiddenSize: HIDDEN, timeouts: { openMs: 150, dialMs: 3_000 } }
    await expect(connectRemoteSpan(client, target, options).open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringContaining('did not answer hello within 150 ms'),
    })
    const gone = await loopbackPeer({ listen: [TCP] })
    const addrs = gone.addrs()
    await gone.close()
    const runner = connectRemoteSpan(client, { ...target, peerId: gone.id, addrs }, options)
    await expect(runner.open({ maxTokens: 8 })).rejects.toMatchObject({ code: 'unreachable' })
    // A peer that answers and is somebody else must not pass for it.
    const impostor = connectRemoteSpan(
      client,
      {
        ...target,
        peerId: gone.id,
        addrs: server.addrs().map((address) => address.replace(/\/p2p\/.*/, '')),
      },
      options,
    )
    await expect(impostor.open({ maxTokens: 8 })).rejects.toMatchObject({ code: 'unreachable' })
  })
})
