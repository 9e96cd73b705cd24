import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { createFrame, encodeFrame, FrameReader } from '../../src/protocol/frame.ts'
import { MAX_HEADER_BYTES } from '../../src/protocol/limits.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import { mutate, noise, seededRandom, withoutStackTraces } from './random.ts'

const MAX = 1 << 16
const reader = () => new FrameReader<SpanMessage>(parseSpanMessage, MAX)
const step = { type: 'step', seq: 3, position: 9, tokens: 2, want: 'last', deadlineMs: 500 }

function readAll(chunks: readonly Uint8Array[], into = reader()): [SpanMessage, Uint8Array][] {
  const frames: [SpanMessage, Uint8Array][] = []
  for (const chunk of chunks) into.push(chunk, (message, payload) => frames.push([message, payload.slice()]))
  return frames
}

describe('FrameReader', () => {
  const payload = Uint8Array.from({ length: 300 }, (_, i) => i)
  const stream = Buffer.concat([
    encodeFrame({ type: 'ping' }),
    encodeFrame(step, payload),
    encodeFrame({ type: 'close' }),
    encodeFrame(step, payload.subarray(0, 1)),
  ])

  it('gives the same frames whatever the chunks', () => {
    const expected = [
      [{ type: 'ping' }, new Uint8Array(0)],
      [step, payload],
      [{ type: 'close' }, new Uint8Array(0)],
      [step, payload.slice(0, 1)],
    ]
    for (const size of [1, 2, 7, 8, 9, 64, 333, stream.length]) {
      const chunks: Uint8Array[] = []
      for (let i = 0; i < stream.length; i += size) chunks.push(stream.subarray(i, i + size))
      expect(readAll(chunks), `chunks of ${size}`).toEqual(expected)
    }
  })

  it('createFrame: the payload view is what is sent', () => {
    const frame = createFrame(step, 4)
    frame.payload.set([9, 8, 7, 6])
    expect(readAll([frame.bytes])).toEqual([[step, Uint8Array.of(9, 8, 7, 6)]])
  })

  it('a payload stays what it was when more bytes come', () => {
    const under = reader()
    const frames: Uint8Array[] = []
    const frame = encodeFrame(step, payload)
    for (let i = 0; i < 3; i++) {
      under.push(frame.subarray(0, 20), (_, bytes) => frames.push(bytes))
      under.push(frame.subarray(20), (_, bytes) => frames.push(bytes))
    }
    expect(frames).toEqual([payload, payload, payload])
  })

  const prefix = (header: number, length: number) => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setUint32(0, header, true)
    new DataView(bytes.buffer).setUint32(4, length, true)
    return bytes
  }

  it.each([
    ['an empty header', prefix(0, 0), /header of 0 bytes/],
    ['a header over the limit', prefix(MAX_HEADER_BYTES + 1, 0), /header of 4097 bytes/],
    ['a header of 4 GiB', prefix(0xffffffff, 0), /header of 4294967295 bytes/],
    ['a payload of 4 GiB', prefix(10, 0xffffffff), /payload of 4294967295 bytes/],
    [
      'a payload on a message without one',
      encodeFrame({ type: 'ping' }, payload),
      /ping with a payload of 300/,
    ],
    ['an unknown type', encodeFrame({ type: 'dance' }), /unknown message type "dance"/],
    ['no type', encodeFrame({ a: 1 }), /unknown message type missing/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => readAll([bytes])).toThrow(message)
  })

  it('stays broken after an error', () => {
    const under = reader()
    expect(() => readAll([prefix(0, 0)], under)).toThrow(/header of 0/)
    expect(() => readAll([encodeFrame({ type: 'ping' })], under)).toThrow(/header of 0/)
  })

  it('keeps no more than twice what arrived of a promised frame', () => {
    const promise = encodeFrame(step)
    new DataView(promise.buffer).setUint32(4, 1 << 23, true)
    const before = process.memoryUsage().arrayBuffers
    const held = Array.from({ length: 100 }, () => {
      const one = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
      one.push(promise, () => undefined)
      one.push(new Uint8Array(1000), () => undefined)
      return one
    })
    expect(held.every((one) => one.pendingBytes === promise.length + 1000)).toBe(true)
    // 100 promises of 8 MiB each: 800 MiB if they were believed.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4e6)
  })

  it('100,000 broken streams: only protocol errors, flat memory', () => {
    const random = seededRandom(7)
    const seeds = [
      stream,
      encodeFrame(step, payload),
      encodeFrame({ type: 'error', code: 'x', message: 'y', retryable: true }),
    ]
    const codes = new Map<string, number>()
    const start = process.memoryUsage().heapUsed
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        const bytes = i % 4 === 0 ? noise(64, random) : mutate(seeds[i % 3]!, random)
        const cut = random(bytes.length + 1)
        const under = reader()
        try {
          under.push(bytes.subarray(0, cut), () => undefined)
          under.push(bytes.subarray(cut), () => undefined)
          codes.set('none', (codes.get('none') ?? 0) + 1)
        } catch (error) {
          codes.set(errorCode(error), (codes.get(errorCode(error)) ?? 0) + 1)
        }
      }
    })
    expect([...codes.keys()].sort()).toEqual(['none', 'protocol'])
    expect(codes.get('protocol')).toBeGreaterThan(30_000)
    expect(process.memoryUsage().heapUsed - start).toBeLessThan(64e6)
  })
})
