import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { checkOpening, encodeOpening, parseOpening } from '../../src/protocol/opening.ts'
import { encodePassBody, type Pass, parsePass } from '../../src/protocol/pass.ts'
import { parsePassMessage, passRefusal } from '../../src/protocol/pass-messages.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import { mutate, seededRandom, withoutStackTraces } from './random.ts'

const NOW = 1_000_000
const pass: Pass = {
  sponsor: 'sponsor',
  audience: 'client',
  models: ['m@1'],
  tokens: 100,
  sessions: 3,
  issuedAt: NOW,
  expiresAt: NOW + 60_000,
  nonce: Uint8Array.from({ length: 16 }, (_, i) => i),
}
const bytesOf = (more: Partial<Pass> = {}): Uint8Array =>
  encodeSigned({ body: encodePassBody({ ...pass, ...more }), signature: new Uint8Array(64) }, 'pass', 4096)

const opening = {
  session: new Uint8Array(16),
  client: 'client',
  server: 'server',
  modelId: 'm@1',
  start: 0,
  end: 4,
  maxTokens: 10,
  dtype: 'bf16',
  issuedAt: NOW,
} as const

describe('parsePass', () => {
  it('comes back as it was signed', () => {
    const parsed = parsePass(bytesOf(), 'client', NOW)
    expect(parsed.pass).toEqual(pass)
    expect(parsed.id).toBe('000102030405060708090a0b0c0d0e0f')
  })

  it.each<[string, Partial<Pass>, string, RegExp]>([
    ['for another key', { audience: 'thief' }, 'audience', /is for thief/],
    ['of the future', { issuedAt: NOW + 31_000, expiresAt: NOW + 60_000 }, 'issuedAt', /future/],
    ['that ended', { issuedAt: NOW - 10, expiresAt: NOW }, 'expiresAt', /expired 0 ms ago/],
    ['for ever', { expiresAt: NOW + 3_600_001 }, 'expiresAt', /1 to 3600000 allowed/],
    ['that ends before it begins', { expiresAt: NOW - 1 }, 'expiresAt', /allowed/],
  ])('refuses one %s, naming the field', (_, more, field, reason) => {
    try {
      parsePass(bytesOf(more), 'client', NOW)
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'refused', field, message: expect.stringMatching(reason) })
    }
  })

  it('100,000 broken passes, openings and messages: only protocol and refused', () => {
    const random = seededRandom(23)
    const body = encodeOpening(opening)
    const messages = [
      { type: 'request', models: ['m@1'] },
      { type: 'admitted', until: 5 },
      { type: 'used', modelId: 'm@1', start: 0, end: 4, tokens: 9 },
      { type: 'left', tokens: 5 },
      { ...passRefusal('capacity', 'later', 20) },
    ].map(encodeCbor)
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        try {
          if (i % 3 === 0) parsePass(mutate(bytesOf(), random), 'client', NOW)
          else if (i % 3 === 1) parseOpening(mutate(body, random))
          else parsePassMessage(mutate(messages[i % messages.length]!, random), 0)
        } catch (error) {
          const code = errorCode(error)
          if (code !== 'protocol' && code !== 'refused') throw error
        }
      }
    })
  })
})

describe('parseOpening and checkOpening', () => {
  it('come back, unknown fields are ignored, every known one is needed', () => {
    expect(parseOpening(encodeOpening(opening))).toEqual(opening)
    expect(parseOpening(encodeCbor({ ...opening, later: 1 }))).toEqual(opening)
    for (const name of Object.keys(opening)) {
      const rest = Object.fromEntries(Object.entries(opening).filter(([key]) => key !== name))
      expect(() => parseOpening(encodeCbor(rest)), name).toThrow(name)
    }
    expect(() => parseOpening(encodeCbor({ ...opening, maxTokens: 0 }))).toThrow('maxTokens')
  })

  it('the window is the clock tolerance, both ways', () => {
    const ends = { client: 'client', server: 'server' }
    for (const now of [NOW - 30_000, NOW, NOW + 30_000])
      expect(() => checkOpening(opening, ends, now)).not.toThrow()
    for (const now of [NOW - 30_001, NOW + 30_001])
      expect(() => checkOpening(opening, ends, now)).toThrow('clocks')
    expect(() => checkOpening(opening, { ...ends, server: 'x' }, NOW)).toThrow('addressed to server')
    expect(() => checkOpening(opening, { ...ends, client: 'x' }, NOW)).toThrow('of client')
  })
})

describe('parsePassMessage', () => {
  it.each([
    { type: 'request', models: [] },
    { type: 'pass' },
    { type: 'show' },
    { type: 'admitted', until: 7 },
    { type: 'used', modelId: 'm@1', start: 0, end: 4, tokens: 9 },
    { type: 'left', tokens: 0 },
    { ...passRefusal('capacity', 'later', 20.2) },
    { ...passRefusal('engine', 'why') },
  ])('$type comes back as it was sent', (message) => {
    expect(parsePassMessage(encodeCbor(message), 0)).toEqual(message)
  })

  it('use of no block, or of more than a pass can be good for, is refused with the field', () => {
    const used = { type: 'used', modelId: 'm@1', start: 0, end: 4, tokens: 9 }
    expect(() => parsePassMessage(encodeCbor({ ...used, end: 0 }), 0)).toThrow('empty span 0:0')
    expect(() => parsePassMessage(encodeCbor({ ...used, tokens: 2 ** 31 }), 0)).toThrow('tokens')
    expect(() => parsePassMessage(encodeCbor({ ...used, start: 5_000, end: 5_001 }), 0)).toThrow('start')
  })

  it('only passes have a payload, up to the limit', () => {
    expect(() => parsePassMessage(encodeCbor({ type: 'show' }), 2048)).not.toThrow()
    expect(() => parsePassMessage(encodeCbor({ type: 'show' }), 2049)).toThrow('2049 bytes')
    expect(() => parsePassMessage(encodeCbor({ type: 'request', models: [] }), 1)).toThrow('bytes')
  })
})
