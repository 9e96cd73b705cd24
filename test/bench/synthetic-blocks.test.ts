import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { matrixBytes, SHRUNKEN, syntheticBlocks } from '../../node/cli/bench/synthetic-block.ts'
import { writeSyntheticGguf } from '../../node/cli/bench/synthetic-gguf.ts'
import { createFileStore } from '../../node/file-store.ts'
import { openModel } from '../../src/model/open-model.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-test-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('synthetic blocks', () => {
  it.each(['F16', 'Q4_0'] as const)(
    'are the same bytes in the GGUF file that rivals read: %s',
    async (format) => {
      const model = syntheticBlocks(SHRUNKEN, format, 2)
      const path = join(folder, `${format}.gguf`)
      await writeSyntheticGguf(model, path)
      const read = await openModel(path, { files: createFileStore() })
      const { spec } = read
      expect(spec).toMatchObject({
        ...SHRUNKEN,
        family: 'llama',
        blockCount: 2,
        vocabSize: 288,
        mlp: { kind: 'gated' },
      })
      let bytes = 0
      // q and k come with their rows exchanged, for another layout of rotary pairs.
      for (const role of ['v', 'o', 'gate', 'up', 'down', 'attentionNorm'] as const) {
        const [own, other] = [await model.weights.block(1, role), await read.weights.block(1, role)]
        expect([other.dtype, other.shape]).toEqual([own.dtype, own.shape])
        expect(Buffer.compare(other.bytes, own.bytes)).toBe(0)
        if (role !== 'attentionNorm') bytes += own.bytes.length
      }
      for (const role of ['q', 'k'] as const) bytes += (await read.weights.block(1, role)).bytes.length
      expect(2 * bytes).toBe(matrixBytes(SHRUNKEN, format, 2))
      await read.close()
    },
  )
})
