import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { verifyFiles } from '../../node/cli/verify.ts'
import { receiptFiles } from '../../node/receipt-files.ts'
import { silentLogger } from '../../src/log.ts'
import { encodeFrame, FrameReader } from '../../src/protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import type { StoredReceipt } from '../../src/protocol/receipt-file.ts'
import { parseReceipt } from '../../src/protocol/receipts.ts'
import { unpackSteps } from '../../src/protocol/step-chain.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { exportReceipts, memoryReceiptStore, type ReceiptStore } from '../../src/swarm/receipt-store.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { someHidden } from '../contract/span-runner.ts'
import { createFakeEngineSpan } from '../session/fake-engine-span.ts'
import { fakeSpan } from './fake-span.ts'
import { HIDDEN, loopbackPeer, openingOf, serveFake, targetOf, TCP, until } from './loopback.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function peerWith(options: { listen?: string[]; receipts: ReceiptStore }): Promise<Peer> {
  const peer = await loopbackPeer(options)
  closers.push(() => peer.close())
  return peer
}

async function pair() {
  const stores = { server: memoryReceiptStore(), client: memoryReceiptStore() }
  const server = await peerWith({ listen: [TCP], receipts: stores.server })
  const client = await peerWith({ receipts: stores.client })
  return { server, client, stores }
}

async function fileOf(store: ReceiptStore, name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'chorale-receipts-'))
  closers.push(() => rm(folder, { recursive: true }))
  const file = join(folder, name)
  await writeFile(file, await exportReceipts(store))
  return file
}

const receiptsOf = (entries: readonly StoredReceipt[]) => entries.map((entry) => parseReceipt(entry).receipt)

describe('receipts of a session', () => {
  it('come after the prompt, every 32 tokens and at the end, signed by both, and hold at both ends', async () => {
    const { server, client, stores } = await pair()
    const span = fakeSpan()
    await serveFake(server, span)
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 256,
    })
    await session.step(someHidden(7, HIDDEN, 1), { want: 'last' })
    for (let i = 0; i < 70; i++) await session.step(someHidden(1, HIDDEN, i))
    await session.rollback(60)
    await session.step(someHidden(1, HIDDEN, 9))
    await session.close()
    await until(async () => (await stores.server.entries()).length === 4, 'the server has the last signature')
    expect(
      receiptsOf(await stores.client.entries()).map(({ decoded, prefilled, final }) => [
        prefilled,
        decoded,
        final,
      ]),
    ).toEqual([
      [7, 0, false],
      [7, 32, false],
      [7, 64, false],
      [7, 71, true],
    ])
    const report = await verifyFiles([
      await fileOf(stores.server, 's.bin'),
      await fileOf(stores.client, 'c.bin'),
    ])
    expect(report).toMatchObject({
      ok: true,
      receipts: 8,
      cutBytes: 0,
      servers: [{ server: server.id, sessions: 1, prefilled: 7, decoded: 71, blockTokens: 78 * 4 }],
      sessions: [{ receipts: 4, acknowledged: 4, complete: true, engine: 'fake', numericMode: 'float' }],
    })
  })

  it('in pushed chains they name the inputs that the client never sent itself', async () => {
    const store = memoryReceiptStore()
    const client = await peerWith({ receipts: store })
    const servers = await Promise.all(
      [
        [0, 2],
        [2, 4],
      ].map(async ([start, end]) => {
        const peer = await peerWith({ listen: [TCP], receipts: memoryReceiptStore() })
        const engine = createFakeEngineSpan({ start: start!, end: end!, kvTokens: 64 })
        await serveFake(peer, engine)
        return { peer, target: targetOf(peer, engine) }
      }),
    )
    const [a, b] = servers as [(typeof servers)[0], (typeof servers)[0]]
    const token = new Uint8Array(16)
    const open = (target: typeof a.target, push: object) =>
      connectRemoteSpan(client, target, { hiddenSize: HIDDEN }).open({ maxTokens: 16, push })
    const [first, second] = await Promise.all([
      open(a.target, { next: { token, peerId: b.peer.id, addrs: b.peer.addrs() } }),
      open(b.target, { accept: { token, peerId: a.peer.id } }),
    ])
    for (const seed of [1, 2, 3]) {
      const one = first.push!.begin(1, 'all')
      const two = second.push!.begin(1, 'all')
      one.send(someHidden(1, HIDDEN, seed), [two])
      await two.answer
      two.given?.((await one.answer).hidden)
    }
    await Promise.all([first.close(), second.close()])
    const entries = await store.entries()
    const stepsOf = (peer: Peer) =>
      entries
        .filter((entry) => parseReceipt(entry).receipt.server === peer.id)
        .flatMap(({ steps }) => unpackSteps(steps))
    // What one says it gave is what the next says it got: servers vouch for each other.
    expect(stepsOf(b.peer).map(({ input }) => input)).toEqual(stepsOf(a.peer).map(({ output }) => output))
    expect(stepsOf(b.peer)).toHaveLength(3)
  })

  it('a session that is cut leaves the server’s own receipt', async () => {
    const { server, client, stores } = await pair()
    const span = fakeSpan()
    await serveFake(server, span)
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    for (let i = 0; i < 4; i++) await session.step(someHidden(1, HIDDEN, i))
    // Its signature goes out before the next step then.
    await until(async () => (await stores.client.entries()).length > 0, 'the client has the first receipt')
    await session.step(someHidden(1, HIDDEN, 4))
    await client.close()
    await until(
      async () => receiptsOf(await stores.server.entries()).some(({ final }) => final),
      'it is final',
    )
    expect(await verifyFiles([await fileOf(stores.server, 's.bin')])).toMatchObject({
      ok: true,
      sessions: [{ decoded: 5, complete: true, acknowledged: 1 }],
    })
  })
})

describe('a server whose receipts are wrong', () => {
  it.each<[string, (bytes: Uint8Array) => Uint8Array[], RegExp]>([
    ['forged', (bytes) => [flip(bytes, bytes.length - 1)], /receipt|protocol|steps|signature/],
    ['cut short', (bytes) => [bytes.subarray(0, 100)], /receipt message/],
    ['random', () => [new Uint8Array(300)], /receipt message/],
    ['given twice', (bytes) => [bytes, bytes], /two different receipts have number 0|number 0/],
  ])('loses the session: %s', async (_, forge, reason) => {
    const { server, client } = await pair()
    const span = fakeSpan()
    await serveFake(server, span)
    // Between the two stands a peer that passes everything on and changes receipts.
    const proxy = await meddler(server, forge)
    const target = { ...targetOf(server, span), peerId: proxy.id, addrs: proxy.addrs() }
    const runner = connectRemoteSpan(client, target, { hiddenSize: HIDDEN })
    const session = await runner.open({ maxTokens: 8 })
    await session.step(someHidden(1, HIDDEN, 1))
    await until(
      async () =>
        (await session.step(someHidden(1, HIDDEN, 2)).catch((error: unknown) => error)) instanceof Error,
      'the session is over',
    )
    const error = (await session.step(someHidden(1, HIDDEN, 2)).catch((caught: unknown) => caught)) as Error
    expect(error).toMatchObject({ code: 'protocol', message: expect.stringMatching(reason) })
  })

  it('a client that never signs gets no work for nothing: its signatures are asked for', async () => {
    const { server, client, stores } = await pair()
    const span = fakeSpan()
    const { service } = await serveFake(server, span)
    const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
    const messages: SpanMessage[] = []
    const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
    stream.addEventListener('message', ({ data }) =>
      reader.push(data.subarray(), (message) => messages.push(message)),
    )
    stream.send(
      encodeFrame({
        type: 'hello',
        version: PROTOCOL_VERSION,
        role: 'client',
        software: 'x',
        dtypes: ['f32'],
      }),
    )
    stream.send(encodeFrame(await openingOf(client, server)))
    await until(() => messages.at(-1)?.type === 'opened', 'the session is open')
    stream.send(
      encodeFrame(
        { type: 'step', seq: 0, position: 0, tokens: 1, want: 'all', deadlineMs: 5_000 },
        new Uint8Array(HIDDEN * 4),
      ),
    )
    await until(() => messages.some(({ type }) => type === 'receipt'), 'a receipt came')
    stream.send(encodeFrame({ type: 'ack', sequence: 0, signature: new Uint8Array(64) }))
    await until(() => messages.at(-1)?.type === 'error', 'the server objects')
    expect(messages.at(-1)).toMatchObject({
      code: 'protocol',
      message: expect.stringContaining('receipt 0 is wrong'),
    })
    expect(service.counters.refusals.get('protocol')).toBe(1)
    await until(async () => (await stores.server.entries()).length > 0, 'the server keeps its own word')
    expect((await stores.server.entries()).every(({ ack }) => ack === undefined)).toBe(true)
  })
})

/** A server of its own that gives good answers and receipts changed by `forge`. */
async function meddler(honest: Peer, forge: (payload: Uint8Array) => Uint8Array[]): Promise<Peer> {
  const store = memoryReceiptStore()
  const proxy = await peerWith({ listen: [TCP], receipts: store })
  const handle = proxy.handle.bind(proxy)
  // What it sends is looked at on its way out, where its own code can't see it.
  const meddling: Peer = {
    ...proxy,
    identity: proxy.identity,
    handle: (protocol, handler, most) =>
      handle(
        protocol,
        (stream, connection) => {
          const send = stream.send.bind(stream)
          stream.send = (data) => {
            const bytes = data instanceof Uint8Array ? data : data.subarray()
            const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
            let sent = true
            reader.push(bytes, (message, payload) => {
              const frames =
                message.type === 'receipt'
                  ? forge(payload.slice()).map((p) => encodeFrame(message, p))
                  : [bytes]
              for (const frame of frames) sent = send(frame)
            })
            return sent
          }
          return handler(stream, connection)
        },
        most,
      ),
  }
  await serveFake(meddling, fakeSpan())
  expect(honest.id).not.toBe(proxy.id)
  return proxy
}

function flip(bytes: Uint8Array, at: number): Uint8Array {
  const changed = Uint8Array.from(bytes)
  changed[at] = changed[at]! ^ 1
  return changed
}

describe('receiptFiles', () => {
  it('keeps receipts over restarts, begins new files and drops the oldest', async () => {
    const { server, client, stores } = await pair()
    const span = fakeSpan()
    await serveFake(server, span)
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 8,
    })
    await session.step(someHidden(1, HIDDEN, 1))
    await session.close()
    const [entry] = await stores.client.entries()
    const folder = await mkdtemp(join(tmpdir(), 'chorale-receipts-'))
    closers.push(() => rm(folder, { recursive: true }))
    const options = { folder, log: silentLogger, maxFileBytes: 4_000, maxFiles: 3 }
    const first = receiptFiles(options)
    first.add(entry!)
    expect(await first.entries()).toEqual([entry])
    await first.close()
    const second = receiptFiles(options)
    expect(await second.entries()).toEqual([entry])
    for (let i = 0; i < 20; i++) {
      for (let j = 0; j < 5; j++) second.add(entry!)
      await second.entries()
    }
    const names = await readdir(folder)
    expect(names.length).toBeLessThanOrEqual(3)
    await second.close()
    expect(
      await verifyFiles(names.map((name) => join(folder, name)).filter((file) => file.length > 0)),
    ).toMatchObject({ ok: true })
    expect(() => receiptFiles({ ...options, folder: '/dev/null/receipts' })).toThrow(/can't be kept/)
  })
})
