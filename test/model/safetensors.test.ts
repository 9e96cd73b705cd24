import { describe, expect, it } from 'vitest'
import { memorySource } from '../../src/byte-source.ts'
import { readSafetensors, readShardedSafetensors, readTensors } from '../../src/model/safetensors.ts'
import { writeSafetensors } from '../../src/model/safetensors-writer.ts'
import { readWeight } from '../../src/model/tensor-table.ts'
import { rawSafetensors } from './files.ts'

const open = async (bytes: Uint8Array) => await readSafetensors(memorySource('x.safetensors', bytes))
const entry = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets })

describe('readSafetensors', () => {
  it('reads names, dtypes, shapes and bytes', async () => {
    const header = {
      __metadata__: { format: 'pt' },
      b: entry('F16', [2, 3], [4, 16]),
      a: entry('F32', [], [0, 4]),
      empty: entry('F32', [0, 7], [16, 16]),
    }
    const file = rawSafetensors(header, 16)
    file.set([1, 2, 3, 4], file.length - 16)
    const table = await open(file)
    expect([...table.keys()].sort()).toEqual(['a', 'b', 'empty'])
    expect(await readWeight(table.get('a')!)).toEqual({
      dtype: 'F32',
      shape: [],
      bytes: Uint8Array.of(1, 2, 3, 4),
    })
    expect(table.get('b')).toMatchObject({
      dtype: 'F16',
      shape: [2, 3],
      offset: file.length - 12,
      byteLength: 12,
    })
  })

  const good = entry('F32', [1], [0, 4])
  it.each([
    ['a file of 7 bytes', new Uint8Array(7), /7 bytes is no safetensors/],
    ['a header longer than allowed', rawSafetensors('{}', 0, 100_000_001n), /header length 100000001/],
    ['a header length of 2^64-1', rawSafetensors('{}', 0, 2n ** 64n - 1n), /header length/],
    ['a header longer than the file', rawSafetensors('{}', 0, 3n), /in a file of 10/],
    ['a header that is no object', rawSafetensors('[]', 0), /does not start with \{/],
    ['broken JSON', rawSafetensors('{"a":', 0), /not JSON/],
    ['JSON nested without end', rawSafetensors(`{"a":${'['.repeat(5000)}`, 0), /nested deeper/],
    ['bytes that are no UTF-8', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff), /not UTF-8/],
    [
      'a tensor twice',
      rawSafetensors(`{"a":${JSON.stringify(good)},"a":${JSON.stringify(good)}}`, 4),
      /"a" is given twice/,
    ],
    [
      'a key twice through an escape',
      rawSafetensors(`{"a":${JSON.stringify(good)},"\\u0061":${JSON.stringify(good)}}`, 4),
      /"a" is given twice/,
    ],
    [
      'a field twice',
      rawSafetensors('{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', 4),
      /"dtype" is given twice/,
    ],
    [
      'an unknown dtype',
      rawSafetensors({ a: entry('F12', [1], [0, 4]) }, 4),
      /tensor a: unknown dtype "F12"/,
    ],
    [
      'a dtype of the prototype',
      rawSafetensors({ a: entry('constructor', [1], [0, 4]) }, 4),
      /unknown dtype/,
    ],
    ['no shape', rawSafetensors({ a: entry('F32', undefined, [0, 4]) }, 4), /tensor a: bad shape/],
    ['a negative dimension', rawSafetensors({ a: entry('F32', [-1], [0, 4]) }, 4), /bad shape \[-1\]/],
    ['nine dimensions', rawSafetensors({ a: entry('F32', Array(9).fill(1), [0, 4]) }, 4), /bad shape/],
    [
      'a shape that overflows',
      rawSafetensors({ a: entry('F32', [2 ** 52, 2 ** 52], [0, 4]) }, 4),
      /tensor a: data_offsets/,
    ],
    [
      'offsets that disagree with the shape',
      rawSafetensors({ a: entry('F32', [2], [0, 4]) }, 4),
      /0\.\.4, but F32 \[2\] takes 8 bytes/,
    ],
    ['offsets backwards', rawSafetensors({ a: entry('F32', [1], [4, 0]) }, 4), /tensor a: data_offsets/],
    ['an overlap', rawSafetensors({ a: good, b: entry('F32', [1], [2, 6]) }, 6), /tensor b overlaps/],
    [
      'a hole',
      rawSafetensors({ a: good, b: entry('F32', [1], [8, 12]) }, 12),
      /4 unused bytes before tensor b/,
    ],
    ['bytes at the end', rawSafetensors({ a: good }, 5), /1 bytes after the last tensor/],
    ['a file cut short', rawSafetensors({ a: good }, 3), /tensor a ends at byte 4 of 3.*complete\?/],
    ['a tensor that is no object', rawSafetensors({ a: null }, 0), /tensor a: not an object/],
  ])('refuses %s', async (_what, bytes, message) => {
    await expect(open(bytes)).rejects.toMatchObject({
      code: 'bad_file',
      message: expect.stringMatching(message),
    })
    await expect(open(bytes)).rejects.toThrow(/^x\.safetensors/)
  })
})

describe('readShardedSafetensors', () => {
  const shards: Record<string, Uint8Array> = {
    'one.safetensors': rawSafetensors({ a: entry('F32', [1], [0, 4]) }, 4),
    'two.safetensors': rawSafetensors({ b: entry('F32', [1], [0, 4]) }, 4),
  }
  const read = async (index: Record<string, unknown>) =>
    await readShardedSafetensors('index.json', index, async (file) => memorySource(file, shards[file]!))

  it('finds each tensor in its shard and opens each shard once', async () => {
    const table = await read({ weight_map: { a: 'one.safetensors', b: 'two.safetensors' } })
    expect(table.get('b')?.source.name).toBe('two.safetensors')
    expect(table.get('a')?.source.name).toBe('one.safetensors')
  })

  it.each([
    [{}, /no object "weight_map"/],
    [{ weight_map: {} }, /empty/],
    [{ weight_map: { a: '../../etc/passwd' } }, /no name of a shard/],
    [{ weight_map: { a: '/one.safetensors' } }, /no name of a shard/],
    [{ weight_map: { a: 'sub/one.safetensors' } }, /no name of a shard/],
    [{ weight_map: { a: 7 } }, /no name of a shard/],
    [{ weight_map: { b: 'one.safetensors' } }, /b is not in one\.safetensors/],
    [
      {
        weight_map: Object.fromEntries(
          Array.from({ length: 4097 }, (_, i) => [`t${i}`, `s${i}.safetensors`]),
        ),
      },
      /more than 4096 shards/,
    ],
  ])('refuses %j', async (index, message) => {
    await expect(read(index)).rejects.toMatchObject({
      code: 'bad_file',
      message: expect.stringMatching(message),
    })
  })
})

describe('writeSafetensors', () => {
  it('writes what readTensors reads, data aligned to 8', async () => {
    const tensors = [
      { name: 'größe', dtype: 'F32', shape: [2, 1], data: Float32Array.of(1.5, -0) },
      { name: 'ids', dtype: 'I32', shape: [3], data: Int32Array.of(1, -2, 3) },
      { name: 'raw', dtype: 'U8', shape: [1], data: Uint8Array.of(255) },
    ] as const
    const file = writeSafetensors(tensors)
    expect(Number(new DataView(file.buffer).getBigUint64(0, true)) % 8).toBe(0)
    const read = await readTensors(memorySource('t', file))
    expect([...read]).toEqual(tensors.map(({ name, ...tensor }) => [name, tensor]))
  })

  it('refuses data that does not fill its shape, and two tensors of one name', () => {
    const one = { name: 'a', dtype: 'F32', shape: [1], data: Float32Array.of(1) } as const
    expect(() => writeSafetensors([{ ...one, shape: [2] }])).toThrow(/a: 1 values for shape \[2\]/)
    expect(() => writeSafetensors([one, one])).toThrow(/two tensors are named a/)
  })
})
