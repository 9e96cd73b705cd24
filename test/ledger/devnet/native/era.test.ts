import { describe, expect, it } from 'vitest'
import {
  type Era,
  eraBirth,
  eraDeath,
  mortalEra,
  readEra,
  writeEra,
} from '../../../../src/ledger/devnet/native/era.ts'
import { ScaleReader, ScaleWriter } from '../../../../src/ledger/devnet/native/scale-bytes.ts'

function encode(era: Era): Uint8Array {
  const writer = new ScaleWriter()
  writeEra(era, writer)
  return writer.finish()
}

describe('eras', () => {
  it("encode as sp-runtime's own tests say", () => {
    expect(encode('immortal')).toEqual(Uint8Array.of(0))
    expect(encode({ period: 64, phase: 42 })).toEqual(Uint8Array.of(5 + (42 % 16) * 16, 42 / 16))
    expect(encode({ period: 32_768, phase: 20_000 })).toEqual(Uint8Array.of(14 + (2500 % 16) * 16, 2500 / 16))
    expect(encode({ period: 4, phase: 3 })).toEqual(Uint8Array.of(0x31, 0))
  })

  it('come back as they were, for every period', () => {
    for (let period = 4; period <= 65_536; period *= 2) {
      for (const block of [0, 1, 3, 1000, 123_456_789]) {
        const era = mortalEra(block, period)
        expect(readEra(new ScaleReader(encode(era)))).toEqual(era)
      }
    }
  })

  it('are born and die as in Substrate', () => {
    const era: Era = { period: 4, phase: 1 }
    expect([1, 5, 6, 7, 8, 9].map((block) => [eraBirth(era, block), eraDeath(era, block)])).toEqual([
      [1, 5],
      [5, 9],
      [5, 9],
      [5, 9],
      [5, 9],
      [9, 13],
    ])
    expect(eraBirth({ period: 64, phase: 42 }, 5)).toBe(42)
    expect([eraBirth('immortal', 1000), eraDeath('immortal', 1000)]).toEqual([0, undefined])
  })

  it('refuse impossible bytes', () => {
    // Period 2, and a phase not below its period.
    for (const bytes of [[0x10, 0], [0x41, 0], [1]])
      expect(() => readEra(new ScaleReader(Uint8Array.from(bytes)))).toThrow(
        expect.objectContaining({ code: 'ledger' }),
      )
  })
})
