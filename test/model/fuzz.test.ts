import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isChoraleError } from '../../src/errors.ts'
import { memorySource } from '../../src/byte-source.ts'
import { readConfig, readGenerationDefaults } from '../../src/model/config.ts'
import { ggufTokenizerFiles } from '../../src/model/gguf-tokenizer.ts'
import { parseJsonObject } from '../../src/model/json.ts'
import { openGguf } from '../../src/model/open-gguf.ts'
import { readGguf } from '../../src/model/gguf.ts'
import { readSafetensors, readShardedSafetensors } from '../../src/model/safetensors.ts'
import { rawSafetensors, VECTORS } from './files.ts'
import { list, text, tinyLlama, u32, writeGguf } from './write-gguf.ts'

/** A small generator: the cases are the same on every run. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** `valid` with a few bytes changed, cut, doubled or replaced; sometimes noise. */
function mutate(valid: Uint8Array, random: (below: number) => number, headerBytes: number): Uint8Array {
  if (random(20) === 0) return Uint8Array.from({ length: random(200) }, () => random(256))
  const bytes = Uint8Array.from(valid)
  for (let edits = 1 + random(4); edits > 0; edits--) {
    const at = random(headerBytes)
    const kind = random(5)
    if (kind === 0) bytes[at] = random(256)
    else if (kind === 1) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
    else if (kind === 2) bytes[at] = '{}[]",:0-9e'.charCodeAt(random(11))
    else if (kind === 3) bytes.fill(random(2) * 255, at, at + random(9))
    else bytes.copyWithin(at, random(headerBytes), random(headerBytes))
  }
  return random(10) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes
}

/** Runs `count` cases; anything thrown that is not ours fails. Says how many were accepted. */
async function survive(count: number, run: (random: (below: number) => number) => unknown): Promise<number> {
  const random = randomFrom(20_261_122)
  let accepted = 0
  for (let i = 0; i < count; i++) {
    try {
      await run(random)
      accepted++
    } catch (error) {
      if (!isChoraleError(error)) throw error
    }
  }
  return accepted
}

/** Growth of memory over a run, in MiB, after garbage collection where the runner allows it. */
async function growthOf(run: () => Promise<unknown>): Promise<number> {
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  await run()
  globalThis.gc?.()
  return (process.memoryUsage().heapUsed - before) / 2 ** 20
}

const entry = (shape: number[], data_offsets: number[]) => ({ dtype: 'F32', shape, data_offsets })
const safetensors = rawSafetensors(
  { a: entry([2], [0, 8]), b: entry([1, 3], [8, 20]), __metadata__: { x: 'y' } },
  20,
)
const llama = tinyLlama()
const gguf = writeGguf({
  metadata: [
    ...llama.metadata,
    ['tokenizer.ggml.model', text('llama')],
    ['tokenizer.ggml.tokens', list('string', ['<unk>', '<s>', '▁', 'a', '▁a'])],
    ['tokenizer.ggml.scores', list('f32', [0, 0, -1, -2, -3])],
    ['tokenizer.ggml.token_type', list('i32', [2, 3, 1, 1, 1])],
    ['tokenizer.ggml.bos_token_id', u32(1)],
  ],
  tensors: llama.tensors,
})
const config = new TextEncoder().encode(readFileSync(join(VECTORS, 'llama3-rope-scaled/config.json'), 'utf8'))
const index = new TextEncoder().encode(
  '{"metadata":{"total_size":20},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors"}}',
)

describe('parsers survive 100,000 broken files with errors of their own and flat memory', () => {
  it('safetensors header: 40,000', async () => {
    let accepted = 0
    const growth = await growthOf(async () => {
      accepted = await survive(
        40_000,
        async (random) =>
          await readSafetensors(memorySource('x', mutate(safetensors, random, safetensors.length - 20))),
      )
    })
    expect(accepted).toBeGreaterThan(100)
    expect(growth).toBeLessThan(64)
  })

  it('GGUF header, config and tokenizer: 20,000', async () => {
    const header = gguf.length - llama.tensors.reduce((sum, { bytes }) => sum + bytes.length, 0) - 300
    let accepted = 0
    const growth = await growthOf(async () => {
      accepted = await survive(20_000, async (random) => {
        const source = memorySource('x', mutate(gguf, random, header))
        ggufTokenizerFiles(await readGguf(source))
        await openGguf(source, { name: 'x' })
      })
    })
    expect(accepted).toBeGreaterThan(100)
    expect(growth).toBeLessThan(64)
  })

  it('config.json and generation_config.json: 25,000', async () => {
    let accepted = 0
    const growth = await growthOf(async () => {
      accepted = await survive(25_000, (random) => {
        const parsed = parseJsonObject('c', new TextDecoder().decode(mutate(config, random, config.length)))
        readGenerationDefaults(parsed)
        return readConfig('c', parsed)
      })
    })
    expect(accepted).toBeGreaterThan(100)
    expect(growth).toBeLessThan(64)
  })

  it('config.json with values of every kind in every field: 5,000', async () => {
    const valid = JSON.parse(new TextDecoder().decode(config)) as Record<string, unknown>
    const values = [
      null,
      true,
      0,
      -1,
      1e308,
      0.5,
      '',
      'x',
      [],
      {},
      [[]],
      [null],
      2 ** 53,
      { rope_type: 'yarn' },
      { type: 7 },
    ]
    const accepted = await survive(5_000, (random) => {
      const changed = { ...valid }
      const keys = Object.keys(valid)
      for (let i = 0; i < 2; i++) changed[keys[random(keys.length)] ?? ''] = values[random(values.length)]
      return readConfig('c', changed)
    })
    expect(accepted).toBeGreaterThan(100)
  })

  it('model.safetensors.index.json: 10,000', async () => {
    const accepted = await survive(10_000, async (random) => {
      const parsed = parseJsonObject('i', new TextDecoder().decode(mutate(index, random, index.length)))
      return await readShardedSafetensors('i', parsed, async () => memorySource('s', safetensors))
    })
    expect(accepted).toBeGreaterThan(100)
  })
})
