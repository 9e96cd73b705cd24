import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memorySource } from '../../src/byte-source.ts'
import { ChoraleError } from '../../src/errors.ts'
import { BLOCKS_KEY, storedShape } from '../../src/model/quantised-safetensors.ts'
import { readSafetensors } from '../../src/model/safetensors.ts'
import { quantize } from '../../src/tensor/quantize.ts'

/** A file with one U8 tensor `w` of `bytes` and this text under `chorale.blocks`. */
function fileWith(blocks: unknown, bytes: Uint8Array, dtype = 'U8') {
  const header = {
    __metadata__: { [BLOCKS_KEY]: blocks },
    w: { dtype, shape: [bytes.length], data_offsets: [0, bytes.length] },
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const file = new Uint8Array(8 + json.length + bytes.length)
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true)
  file.set(json, 8)
  file.set(bytes, 8 + json.length)
  return memorySource('w.safetensors', file)
}

const ROWS = quantize(
  'Q4_1',
  Float32Array.from({ length: 128 }, (_, i) => Math.sin(i)),
)

describe('quantised safetensors', () => {
  it('gives the named tensors their real types', async () => {
    const table = await readSafetensors(
      fileWith(JSON.stringify({ w: { dtype: 'Q4_1', shape: [2, 64] } }), ROWS),
    )
    expect(table.get('w')).toMatchObject({ dtype: 'Q4_1', shape: [2, 64], byteLength: ROWS.length })
    expect(storedShape({ dtype: 'Q4_1', shape: [2, 64] })).toEqual([2, 40])
  })

  it.each([
    [7, 'is no text'],
    ['[', 'not JSON'],
    [JSON.stringify({ other: {} }), 'names no tensor other'],
    [JSON.stringify({ w: 1 }), 'not an object'],
    [JSON.stringify({ w: { dtype: 'Q9', shape: [2, 64] } }), 'unknown dtype'],
    [JSON.stringify({ w: { dtype: 'Q4_1', shape: [2, 65] } }), 'blocks'],
    [JSON.stringify({ w: { dtype: 'Q4_1', shape: [2, -64] } }), 'bad shape'],
    [JSON.stringify({ w: { dtype: 'Q4_1', shape: [4, 64] } }), 'are stored'],
  ])('refuses %j', async (blocks, message) => {
    const error: unknown = await readSafetensors(fileWith(blocks, ROWS)).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'bad_file' })
    expect((error as Error).message).toContain(message)
  })

  it('throws only ChoraleError for any entry', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json(), async (entry) => {
        const text = `{"w": ${entry}}`
        await readSafetensors(fileWith(text, ROWS)).catch((error: unknown) => {
          expect(error).toBeInstanceOf(ChoraleError)
        })
      }),
      { numRuns: 2_000 },
    )
  })
})
