import { describe, expect, it } from 'vitest'
import { errorCode, isChoraleError } from '../../src/errors.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import {
  decodeRecordList,
  encodeRecordList,
  parseDirectoryMessage,
} from '../../src/protocol/directory-messages.ts'
import {
  MAX_ADOPT_BYTES,
  MAX_LIST_PAYLOAD_BYTES,
  MAX_RECEIPT_PAYLOAD_BYTES,
  MAX_RECORD_BYTES,
  MAX_STEP_PAYLOAD_BYTES,
} from '../../src/protocol/limits.ts'
import { failure, parseSpanMessage } from '../../src/protocol/messages.ts'
import { mutate, noise, seededRandom, withoutStackTraces } from './random.ts'

const MESSAGES: readonly Record<string, unknown>[] = [
  { type: 'hello', version: 1, role: 'client', software: 'chorale/1', dtypes: ['f32', 'some-future-format'] },
  { type: 'welcome', version: 1, role: 'server', software: 'chorale/1', dtypes: ['f32'] },
  { type: 'open', body: new Uint8Array(7), signature: new Uint8Array(64) },
  { type: 'receipt' },
  { type: 'ack', sequence: 3, signature: new Uint8Array(64) },
  {
    type: 'opened',
    leaseTokens: 100,
    maxStepTokens: 64,
    hiddenSize: 576,
    dtype: 'f32',
    engine: 'onnx',
    load: { sessions: 1, freeKvTokens: 5, queued: 0 },
  },
  { type: 'step', seq: 0, position: 0, tokens: 1, want: 'all', deadlineMs: 1000.5 },
  { type: 'output', seq: 0, position: 1, serverMs: 0.25 },
  { type: 'attach', token: new Uint8Array(16) },
  { type: 'rollback', seq: 1, position: 0 },
  { type: 'rolledback', seq: 1, position: 0 },
  { type: 'adopt', seq: 2, from: 16, position: 70, deadlineMs: 4000 },
  { type: 'adopted', seq: 2, position: 70 },
  { type: 'close' },
  { type: 'ping' },
  { type: 'pong' },
  { type: 'error', code: 'capacity', message: 'full', retryable: true },
]

const LINK_END = { token: new Uint8Array(16), peerId: 'p' }
const WITH_OPTIONAL: readonly Record<string, unknown>[] = [
  { type: 'link', accept: LINK_END, next: { ...LINK_END, addrs: ['/ip4/127.0.0.1/tcp/1'] } },
  { type: 'link', accept: LINK_END },
  { type: 'link' },
  {
    type: 'step',
    seq: 3,
    position: 7,
    tokens: 2,
    want: 'all',
    deadlineMs: 5,
    onward: [
      { seq: 1, want: 'all' },
      { seq: 9, want: 'last' },
    ],
  },
  { type: 'output', seq: 0, position: 1, serverMs: 0.25, pushed: true },
  { type: 'hello', version: 3, role: 'client', software: 's', dtypes: [], pass: new Uint8Array(9) },
  { type: 'error', code: 'refused', message: 'late', retryable: false, retryAfterMs: 250 },
  { type: 'adopted', seq: 2, position: 16, reason: 'the session is not here any more' },
  { ...MESSAGES[5], kv: { precision: 'f16', width: 192 } },
]

describe('parseSpanMessage', () => {
  it('messages of pushing: come back as they were sent, their optional fields are checked', () => {
    for (const message of WITH_OPTIONAL) {
      expect(parseSpanMessage(encodeCbor(message), 0)).toEqual(message)
    }
    for (const [field, wrong] of [
      ['accept', { ...LINK_END, token: new Uint8Array(15) }],
      ['accept', 7],
      ['next', LINK_END],
      ['next', { ...LINK_END, addrs: Array.from({ length: 13 }, () => 'a') }],
    ] as const) {
      expect(() => parseSpanMessage(encodeCbor({ type: 'link', [field]: wrong }), 0)).toThrow()
    }
    const step = WITH_OPTIONAL[3]!
    const many = Array.from({ length: 65 }, (_, seq) => ({ seq, want: 'all' }))
    for (const onward of [7, [7], [{ seq: -1, want: 'all' }], [{ seq: 1, want: 'some' }], many]) {
      expect(() => parseSpanMessage(encodeCbor({ ...step, onward }), 0)).toThrow()
    }
    expect(() => parseSpanMessage(encodeCbor({ ...WITH_OPTIONAL[4], pushed: 1 }), 0)).toThrow('pushed')
    for (const kv of [7, {}, { precision: 'f8', width: 1 }, { precision: 'f32', width: -1 }]) {
      expect(() => parseSpanMessage(encodeCbor({ ...MESSAGES[5], kv }), 0)).toThrow()
    }
  })

  it.each(MESSAGES.map((message) => [message['type'], message] as const))(
    '%s: comes back as it was sent',
    (_, message) => {
      expect(parseSpanMessage(encodeCbor(message), 0)).toEqual(message)
    },
  )

  it.each(MESSAGES.map((message) => [message['type'], message] as const))(
    '%s: unknown fields are ignored, every known one is needed and checked',
    (_, message) => {
      expect(parseSpanMessage(encodeCbor({ ...message, future: [1, 2] }), 0)).toEqual(message)
      for (const name of Object.keys(message).filter((key) => key !== 'type')) {
        const rest = Object.fromEntries(Object.entries(message).filter(([key]) => key !== name))
        expect(() => parseSpanMessage(encodeCbor(rest), 0), name).toThrow(name)
        for (const wrong of [-1, 1.5, {}, [7], null, 2 ** 53 - 1]) {
          let field: string | undefined
          try {
            parseSpanMessage(encodeCbor({ ...message, [name]: wrong }), 0)
          } catch (error) {
            field = isChoraleError(error) ? error.field : 'not ours'
          }
          // Some of these are fine for some fields; when one is refused it is refused by name.
          if (field !== undefined && name !== 'load') expect(field).toBe(name)
        }
      }
    },
  )

  it('only step, output, adopt and receipt carry a payload, up to the limit', () => {
    for (const message of MESSAGES) {
      const header = encodeCbor(message)
      const bounds: Record<string, number> = {
        step: MAX_STEP_PAYLOAD_BYTES,
        output: MAX_STEP_PAYLOAD_BYTES,
        receipt: MAX_RECEIPT_PAYLOAD_BYTES,
        adopt: MAX_ADOPT_BYTES,
      }
      const most = bounds[message['type'] as string] ?? 0
      expect(() => parseSpanMessage(header, most)).not.toThrow()
      expect(() => parseSpanMessage(header, most + 1)).toThrow(/payload/)
    }
  })

  it('reads an unknown error code as internal and cleans the message', () => {
    const header = encodeCbor({
      type: 'error',
      code: 'from-2030',
      message: 'a\u001b[2Jb\u0000',
      retryable: false,
    })
    expect(parseSpanMessage(header, 0)).toEqual({
      type: 'error',
      code: 'internal',
      message: 'a [2Jb ',
      retryable: false,
    })
    expect(failure('engine', 'x'.repeat(9999), false).message).toHaveLength(512)
  })

  it('100,000 broken headers: only protocol errors', () => {
    const random = seededRandom(11)
    const seeds = MESSAGES.map(encodeCbor)
    let accepted = 0
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        const bytes = i % 5 === 0 ? noise(80, random) : mutate(seeds[i % seeds.length]!, random)
        try {
          parseSpanMessage(bytes, random(2))
          accepted++
        } catch (error) {
          if (errorCode(error) !== 'protocol') throw error
        }
      }
    })
    expect(accepted).toBeGreaterThan(100)
    expect(accepted).toBeLessThan(60_000)
  })
})

describe('parseDirectoryMessage', () => {
  const messages = [
    { type: 'announce' },
    { type: 'list', modelId: 'm@1' },
    { type: 'announced', stored: 3 },
    { type: 'records' },
    { type: 'refused', message: 'no' },
  ]

  it('reads its messages and bounds their payloads', () => {
    for (const message of messages) expect(parseDirectoryMessage(encodeCbor(message), 0)).toEqual(message)
    expect(parseDirectoryMessage(encodeCbor({ type: 'list' }), 0)).toEqual({
      type: 'list',
      modelId: undefined,
    })
    expect(() => parseDirectoryMessage(encodeCbor({ type: 'announce' }), MAX_RECORD_BYTES + 1)).toThrow(
      /payload/,
    )
    expect(() => parseDirectoryMessage(encodeCbor({ type: 'records' }), MAX_LIST_PAYLOAD_BYTES + 1)).toThrow(
      /payload/,
    )
    expect(() => parseDirectoryMessage(encodeCbor({ type: 'list' }), 1)).toThrow(/payload/)
    expect(() => parseDirectoryMessage(encodeCbor({ type: 'step' }), 0)).toThrow(/unknown directory message/)
  })

  it('decodeRecordList: gives back the records and refuses anything else', () => {
    const records = [Uint8Array.of(1), Uint8Array.of(2, 3)]
    expect(decodeRecordList(encodeRecordList(records))).toEqual(records)
    expect(() => decodeRecordList(encodeCbor({ a: 1 }))).toThrow(/no list/)
    expect(() => decodeRecordList(encodeCbor([1]))).toThrow(/something else/)
    expect(() => decodeRecordList(encodeCbor(Array.from({ length: 300 }, () => Uint8Array.of(1))))).toThrow(
      /more than/,
    )
  })

  it('100,000 broken headers and lists: only protocol errors', () => {
    const random = seededRandom(13)
    const seeds = [...messages.map(encodeCbor), encodeRecordList([Uint8Array.of(1, 2), new Uint8Array(30)])]
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        const bytes = i % 5 === 0 ? noise(60, random) : mutate(seeds[i % seeds.length]!, random)
        try {
          if (i % 2 === 0) parseDirectoryMessage(bytes, random(3000))
          else decodeRecordList(bytes)
        } catch (error) {
          if (errorCode(error) !== 'protocol') throw error
        }
      }
    })
  })
})
