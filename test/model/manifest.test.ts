import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { ChoraleError } from '../../src/errors.ts'
import {
  blobRoot,
  checkPieceList,
  digestOf,
  hashBlob,
  holdsPiece,
  isPiece,
  PIECE_BYTES,
  toHex,
} from '../../src/model/blob.ts'
import { readBlockPart } from '../../src/model/block-part.ts'
import { describeWeights, parseManifest, partBlob } from '../../src/model/manifest.ts'
import { manifestModel } from '../../src/model/manifest-model.ts'
import type { Model } from '../../src/model/model.ts'
import { openGguf } from '../../src/model/open-gguf.ts'
import { openModel } from '../../src/model/open-model.ts'
import { createPartReader, partNames } from '../../src/model/part-bytes.ts'
import { memorySource } from '../../src/byte-source.ts'
import { blockRoles, clientRoles } from '../../src/model/weights.ts'
import { mutate, seededRandom, withoutStackTraces } from '../protocol/random.ts'
import { tinyLlama, writeGguf } from './write-gguf.ts'

const files = { files: createFileStore() }
const VECTORS = join(import.meta.dirname, '../vectors')
/** Families with fused tensors, experts, biases. */
const FAMILIES = readdirSync(VECTORS).filter((name) => /falcon|bloom|llama|mi[sx]tral|qwen/.test(name))

/** Rows of q and k are moved when it is read; every byte differs from its neighbours. */
function interleavedGguf(): Uint8Array {
  const { metadata, tensors } = tinyLlama()
  const numbered = tensors.map((tensor) => ({ ...tensor, bytes: tensor.bytes.map((_, i) => (i * 7) % 101) }))
  return writeGguf({ metadata, tensors: numbered })
}

const models: readonly Model[] = await Promise.all([
  openModel(join(VECTORS, '../../models/storyteller'), files),
  ...FAMILIES.map((name) => openModel(join(VECTORS, name), files)),
  openGguf(memorySource('tiny.gguf', interleavedGguf()), { name: 'tiny' }),
])
afterAll(() => Promise.all(models.map((model) => model.close())))

describe('createPartReader', () => {
  it('reads any range of a part as the whole has it, whatever the files look like', async () => {
    const random = seededRandom(5)
    for (const model of models) {
      const reader = createPartReader(model)
      for (let block = 0; block < Math.min(2, model.spec.blockCount); block++) {
        const name = `block.${block}`
        const { part, bytes } = await readBlockPart(model, block)
        expect(await reader.size(name)).toBe(bytes.length)
        for (let i = 0; i < 40; i++) {
          const offset = random(bytes.length)
          const length = i === 0 ? bytes.length - offset : 1 + random(Math.min(5000, bytes.length - offset))
          const got = await reader.read(name, offset, length)
          expect(
            Buffer.compare(got, bytes.subarray(offset, offset + length)),
            `${model.name} ${offset}`,
          ).toBe(0)
        }
        const { root } = await hashBlob(bytes.length, (offset, length) => reader.read(name, offset, length))
        expect(part.root).toBe(root)
      }
      for (const role of clientRoles(model.spec)) {
        const { bytes } = await model.weights.client(role)
        const at = bytes.length >> 1
        expect(Buffer.compare(await reader.read(role, at, bytes.length - at), bytes.subarray(at))).toBe(0)
      }
    }
  })

  it('knows nothing but parts', async () => {
    const [model] = models
    const reader = createPartReader(model!)
    for (const name of ['q', '../config.json', 'block.99', 'block.-1', '']) {
      await expect(reader.size(name)).rejects.toBeInstanceOf(ChoraleError)
    }
  })
})

describe('describeWeights and manifestModel', () => {
  it('a model from its parts has the weights, the shape and the tokenizer of its files', async () => {
    for (const model of models) {
      const lists = new Map<string, Uint8Array>()
      const made = await describeWeights(model, { onPart: (name, { list }) => void lists.set(name, list) })
      const read = await parseManifest(made.bytes)
      expect(read.hash).toBe(made.hash)
      expect(read.hash).toBe(toHex(await digestOf(made.bytes)))
      const reader = createPartReader(model)
      const copy = manifestModel(read.manifest, (name, offset, length) => reader.read(name, offset, length))
      expect([copy.id, copy.format]).toEqual([model.id, model.format])
      expect(copy.spec).toEqual({ ...model.spec, bosTokenId: model.spec.bosTokenId })
      for (const name of partNames(model)) {
        const blob = partBlob(read.manifest, name)!
        await checkPieceList(blob, lists.get(name)!)
        expect(blob.byteLength).toBe(await reader.size(name))
      }
      const block = model.spec.blockCount - 1
      for (const role of blockRoles(model.spec)) {
        const a = await model.weights.block(block, role)
        const b = await copy.weights.block(block, role)
        expect([b.dtype, b.shape]).toEqual([a.dtype, a.shape])
        expect(Buffer.compare(a.bytes, b.bytes), `${model.name} ${role}`).toBe(0)
      }
      for (const role of clientRoles(model.spec)) {
        const a = await model.weights.client(role)
        expect(Buffer.compare(a.bytes, (await copy.weights.client(role)).bytes)).toBe(0)
      }
      expect(await copy.tokenizerFiles()).toEqual(await model.tokenizerFiles())
      await expect(copy.weights.block(model.spec.blockCount, 'q')).rejects.toMatchObject({
        code: 'not_found',
      })
      // Described from its parts it is the same manifest: what came from peers may be given on.
      expect((await describeWeights(copy)).hash).toBe(made.hash)
    }
  })

  it('names what is wrong, and takes 10^5 broken ones as bad files', async () => {
    const [model] = models
    const { bytes } = await describeWeights(model!)
    const text = new TextDecoder().decode(bytes)
    const parse = (changed: string) => parseManifest(new TextEncoder().encode(changed))
    const wrong: readonly (readonly [field: string, from: RegExp, to: string])[] = [
      ['format', /chorale-weights-1/, 'chorale-weights-9'],
      ['modelId', /"modelId":"[^"]+"/, '"modelId":"../x@0123456789ab"'],
      ['hiddenSize', /"hiddenSize":\d+/, `"hiddenSize":${2 ** 40}`],
      ['kvHeadCount', /"kvHeadCount":\d+/, '"kvHeadCount":7'],
      ['layouts.q', /"role":"q"/, '"role":"k"'],
      ['q.shape', /("role":"q",[^[]+)\[\d+/, '$1[1'],
      ['layouts.q.offset', /("role":"q",[^}]+"offset":)\d+/, '$10'],
      ['blocks', /"blocks":\[\{[^}]+\},/, '"blocks":['],
      ['blocks.byteLength', /("blocks":\[\{[^}]+"byteLength":)\d+/, '$164'],
      ['blocks.layout', /("blocks":\[\{[^}]+"layout":)\d+/, '$19'],
      ['blocks.root', /("blocks":\[\{"root":)"\w+"/, '$1"x"'],
      ['client.finalNorm', /"finalNorm":/, '"otherNorm":'],
      ['client.embedding.byteLength', /("embedding":[^}]+"byteLength":)\d+/, '$15'],
    ]
    for (const [field, from, to] of wrong) {
      expect(text, field).toMatch(from)
      await expect(parse(text.replace(from, to)), field).rejects.toMatchObject({ code: 'bad_file', field })
    }
    const random = seededRandom(9)
    await withoutStackTraces(async () => {
      for (let i = 0; i < 100_000; i++) {
        const outcome = parseManifest(mutate(i % 40 === 0 ? bytes : bytes.subarray(0, 300), random))
        await outcome.catch((error: unknown) => {
          if (!(error instanceof ChoraleError) || error.code !== 'bad_file') throw error
        })
      }
    })
  })
})

describe('blobs', () => {
  it('a root binds length, order and every byte', async () => {
    const bytes = new Uint8Array(2 * PIECE_BYTES + 7).map((_, i) => i % 251)
    const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length)
    const { root, list, byteLength } = await hashBlob(bytes.length, read)
    await checkPieceList({ root, byteLength }, list)
    expect(await isPiece(list, 2, bytes.subarray(2 * PIECE_BYTES))).toBe(true)
    expect(await isPiece(list, 1, bytes.subarray(2 * PIECE_BYTES))).toBe(false)
    expect(await isPiece(list, 3, bytes.subarray(2 * PIECE_BYTES))).toBe(false)
    await expect(checkPieceList({ root, byteLength: byteLength + 1 }, list)).rejects.toThrow(
      /not that of blob/,
    )
    await expect(checkPieceList({ root, byteLength }, list.slice(32))).rejects.toThrow(/not that of blob/)
    const swapped = Uint8Array.from([...list.subarray(32, 64), ...list.subarray(0, 32), ...list.subarray(64)])
    expect(await blobRoot(byteLength, swapped)).not.toBe(root)
    expect(await blobRoot(byteLength + 1, list)).not.toBe(root)
  })

  it('a bitmap says which pieces are held', () => {
    const held = { byteLength: 10 * PIECE_BYTES, pieces: Uint8Array.of(0b101, 0b10) }
    expect(
      Array.from({ length: 12 }, (_, i) => holdsPiece(held, i)).flatMap((has, i) => (has ? [i] : [])),
    ).toEqual([0, 2, 9])
    expect(holdsPiece({ byteLength: PIECE_BYTES }, 0)).toBe(true)
    expect(holdsPiece({ byteLength: PIECE_BYTES }, 1)).toBe(false)
  })
})
