import { describe, expect, it } from 'vitest'
import { bf16ToF32, f16ToF32, f32FromBytes, f32ToBf16, f32ToBytes, f32ToF16 } from '../../src/tensor/dtype.ts'

const allHalves = Uint16Array.from({ length: 65536 }, (_, bits) => bits)
const bytesOf = (halves: Uint16Array) => new Uint8Array(halves.buffer)
const halvesOf = (bytes: Uint8Array) => [...new Uint16Array(bytes.slice().buffer)]

/** Floats of every exponent, around every rounding boundary. */
function samples(): Float32Array {
  const words: number[] = []
  for (let high = 0; high < 65536; high += 8) {
    for (const low of [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff])
      words.push(high * 65536 + low)
  }
  for (let bits = 0; bits < 65536; bits += 3) {
    const [half = 0] = f16ToF32(Uint8Array.of(bits & 255, bits >> 8))
    const [next = 0] = f16ToF32(Uint8Array.of((bits + 1) & 255, ((bits + 1) >> 8) & 255))
    words.push(...new Uint32Array(new Float32Array([half, (half + next) / 2]).buffer))
  }
  return new Float32Array(Uint32Array.from(words).buffer)
}

describe('dtype', () => {
  it('f16ToF32 agrees with the platform on every bit pattern', () => {
    const expected = Float32Array.from(new Float16Array(allHalves.slice().buffer))
    expect(f16ToF32(bytesOf(allHalves))).toEqual(expected)
  })

  it('f32ToF16 rounds as the platform does, at every exponent and boundary', () => {
    const values = samples()
    const expected = new Uint16Array(Float16Array.from(values).buffer)
    const actual = halvesOf(f32ToF16(values))
    const wrong = actual.filter((bits, i) => !Number.isNaN(values[i]) && bits !== expected[i])
    expect(wrong).toEqual([])
    expect(f16ToF32(f32ToF16(Float32Array.of(NaN, Infinity, -Infinity, -0)))).toEqual(
      Float32Array.of(NaN, Infinity, -Infinity, -0),
    )
  })

  it('f32ToF16 gives back every finite f16', () => {
    const finite = allHalves.filter((bits) => (bits & 0x7c00) !== 0x7c00)
    expect(halvesOf(f32ToF16(f16ToF32(bytesOf(finite))))).toEqual([...finite])
  })

  it('f32ToBf16 rounds to nearest even and keeps NaN a NaN', () => {
    const words = [
      0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800001, 0xff800000, 0x80000001, 0x00008001,
    ]
    const values = new Float32Array(Uint32Array.from(words).buffer)
    expect(halvesOf(f32ToBf16(values))).toEqual([
      0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7fc0, 0xff80, 0x8000, 0x0001,
    ])
  })

  it('bf16ToF32 is exact and narrows back to the same bits', () => {
    const noNaN = allHalves.filter((bits) => (bits & 0x7fff) <= 0x7f80)
    expect(halvesOf(f32ToBf16(bf16ToF32(bytesOf(noNaN))))).toEqual([...noNaN])
  })

  it('reads bytes at any alignment', () => {
    const odd = new Uint8Array(9)
    const values = Float32Array.of(1.5, -2)
    odd.set(f32ToBytes(values), 1)
    expect(f32FromBytes(odd.subarray(1))).toEqual(values)
    odd.set(f32ToF16(values), 1)
    expect(f16ToF32(odd.subarray(1, 5))).toEqual(values)
    odd.set(f32ToBf16(values), 1)
    expect(bf16ToF32(odd.subarray(1, 5))).toEqual(values)
  })

  it('reads unaligned Node buffers, whose slice is no copy', () => {
    const pool = Buffer.alloc(64, 7)
    const odd = pool.subarray(1, 9)
    odd.set(f32ToBytes(Float32Array.of(1.5, -2)))
    expect(f32FromBytes(odd)).toEqual(Float32Array.of(1.5, -2))
    odd.set(f32ToF16(Float32Array.of(1.5, -2)))
    expect(f16ToF32(odd.subarray(0, 4))).toEqual(Float32Array.of(1.5, -2))
  })

  it('narrows a view that does not start its buffer', () => {
    const view = Float32Array.of(9, 1, 2).subarray(1)
    expect(f16ToF32(f32ToF16(view))).toEqual(Float32Array.of(1, 2))
    expect(bf16ToF32(f32ToBf16(view))).toEqual(Float32Array.of(1, 2))
  })

  it('refuses data that is no whole number of values', () => {
    for (const read of [f16ToF32, bf16ToF32, f32FromBytes]) {
      expect(() => read(new Uint8Array(3))).toThrow(expect.objectContaining({ code: 'bad_file' }))
    }
  })
})
