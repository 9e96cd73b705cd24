import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { checkGrant, encodeGrant, type HandoverGrant, parseGrant } from '../../src/protocol/handover-grant.ts'
import {
  encodeSources,
  handoverRefusal,
  parseHandoverMessage,
  parseSources,
} from '../../src/protocol/handover-messages.ts'
import {
  CLOCK_TOLERANCE_MS,
  MAX_ADOPT_BYTES,
  MAX_GRANT_BYTES,
  MAX_HANDOVER_PART_BYTES,
} from '../../src/protocol/limits.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import { mutate, noise, seededRandom, withoutStackTraces } from './random.ts'

const GRANT: HandoverGrant = {
  session: new Uint8Array(16).fill(7),
  client: 'client',
  from: 'old',
  to: 'new',
  start: 2,
  end: 5,
  issuedAt: 1_000_000,
}
const signed = (grant: object): Uint8Array =>
  encodeSigned(
    { body: encodeCbor({ ...grant }), signature: new Uint8Array(64) },
    'hand-over grant',
    MAX_GRANT_BYTES,
  )
const MESSAGES = [
  { type: 'take', from: 0, to: 70, inputs: false },
  {
    type: 'held',
    to: 70,
    modelId: 'm@1',
    precision: 'f32',
    width: 192,
    engine: 'wasm',
    numericMode: 'float',
  },
  { type: 'part', what: 'kv', from: 16, to: 32, digest: new Uint8Array(32) },
  { type: 'part', what: 'inputs', from: 0, to: 1, digest: new Uint8Array(32).fill(1) },
  { type: 'done' },
  { type: 'refused', code: 'refused', message: 'no', retryAfterMs: 5 },
] as const

describe('HandoverGrant', () => {
  it('is read as it was written; what is out of bounds is refused by name', () => {
    expect(parseGrant(signed(GRANT)).grant).toEqual(GRANT)
    expect(encodeGrant(GRANT)).toEqual(encodeCbor({ ...GRANT }))
    for (const [field, value] of [
      ['session', new Uint8Array(15)],
      ['client', ''],
      ['from', 5],
      ['to', 'x'.repeat(129)],
      ['start', -1],
      ['end', 2],
      ['issuedAt', 'now'],
    ] as const) {
      expect(() => parseGrant(signed({ ...GRANT, [field]: value })), field).toThrow(
        expect.objectContaining({ code: 'protocol', field }),
      )
    }
  })

  it('is honoured by the server it names, for the server it names, at its time', () => {
    const check = (more: Partial<HandoverGrant>, late = 0) =>
      checkGrant({ ...GRANT, ...more }, { from: 'old', to: 'new' }, GRANT.issuedAt + late)
    check({})
    check({}, CLOCK_TOLERANCE_MS)
    const refused = (field: string) => expect.objectContaining({ code: 'refused', field })
    expect(() => check({ from: 'other' })).toThrow(refused('from'))
    expect(() => check({ to: 'other' })).toThrow(refused('to'))
    expect(() => check({}, CLOCK_TOLERANCE_MS + 1)).toThrow(refused('issuedAt'))
    expect(() => check({}, -CLOCK_TOLERANCE_MS - 1)).toThrow(refused('issuedAt'))
  })
})

describe('parseHandoverMessage', () => {
  it('reads its messages and bounds their payloads', () => {
    for (const message of MESSAGES) expect(parseHandoverMessage(encodeCbor(message), 0)).toEqual(message)
    const read = (message: object, bytes: number) => () => parseHandoverMessage(encodeCbor(message), bytes)
    expect(read(MESSAGES[0], MAX_GRANT_BYTES)).not.toThrow()
    expect(read(MESSAGES[0], MAX_GRANT_BYTES + 1)).toThrow(/at most/)
    expect(read(MESSAGES[2], MAX_HANDOVER_PART_BYTES)).not.toThrow()
    expect(read(MESSAGES[2], MAX_HANDOVER_PART_BYTES + 1)).toThrow(/at most/)
    for (const message of [MESSAGES[1], MESSAGES[4], MESSAGES[5]]) expect(read(message, 1)).toThrow(/at most/)
    expect(read({ ...MESSAGES[0], to: 0 }, 0)).toThrow(/no tokens/)
    expect(read({ ...MESSAGES[2], digest: new Uint8Array(31) }, 0)).toThrow(/digest/)
    expect(read({ type: 'step' }, 0)).toThrow(/unknown/)
  })

  it('refusals name codes that mean something to the other server', () => {
    expect(handoverRefusal('not_found', 'gone').code).toBe('not_found')
    expect(handoverRefusal('bad_config', 'x'.repeat(9_999))).toMatchObject({ code: 'internal' })
  })
})

describe('parseSources', () => {
  const source = { grant: new Uint8Array(signed(GRANT)), addrs: ['/ip4/127.0.0.1/tcp/1'] }

  it('reads 1 to 16 sources and no more', () => {
    expect(parseSources(encodeSources([source]))).toEqual([source])
    const many = (count: number) => encodeSources(Array.from({ length: count }, () => source))
    expect(parseSources(many(16))).toHaveLength(16)
    expect(() => parseSources(many(17))).toThrow(expect.objectContaining({ field: 'sources' }))
    expect(() => parseSources(many(0))).toThrow(expect.objectContaining({ field: 'sources' }))
    expect(() => parseSources(new Uint8Array(MAX_ADOPT_BYTES + 1))).toThrow(/at most/)
    expect(() => parseSources(encodeCbor({ sources: [5] }))).toThrow(/maps/)
    expect(() => parseSources(encodeSources([{ ...source, addrs: ['x'.repeat(201)] }]))).toThrow(/addrs/)
  })

  it('100,000 broken grants, messages and lists: only protocol errors', () => {
    const random = seededRandom(29)
    const seeds = [...MESSAGES.map(encodeCbor), signed(GRANT), encodeSources([source, source])]
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        const bytes = i % 5 === 0 ? noise(80, random) : mutate(seeds[i % seeds.length]!, random)
        for (const read of [
          () => parseHandoverMessage(bytes, random(3000)),
          () => parseGrant(bytes),
          () => parseSources(bytes),
        ]) {
          try {
            read()
          } catch (error) {
            if (errorCode(error) !== 'protocol') throw error
          }
        }
      }
    })
  })
})
