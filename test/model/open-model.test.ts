import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import type { ByteSource } from '../../src/byte-source.ts'
import { weighModel } from '../../src/model/describe-model.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import { localFolder, type ModelFolder } from '../../src/model/model-folder.ts'
import { openModel, openModelFolder } from '../../src/model/open-model.ts'
import { readSafetensors, readTensors } from '../../src/model/safetensors.ts'
import { type NamedTensor, writeSafetensors } from '../../src/model/safetensors-writer.ts'
import { memorySource } from '../../src/byte-source.ts'
import { blockRoles } from '../../src/model/weights.ts'
import { BUNDLED, countingSource, memoryFolder, VECTORS } from './files.ts'

const platform = { files: createFileStore() }
const GQA = join(VECTORS, 'llama-gqa')
const gqaConfig = readFileSync(join(GQA, 'config.json'), 'utf8')
const gqaTensors = async (): Promise<NamedTensor[]> =>
  [...(await readTensors(memorySource('gqa', readFileSync(join(GQA, 'model.safetensors')))))].map(
    ([name, tensor]) => ({ name, ...tensor }),
  )

describe('openModel', () => {
  it('opens the bundled model with its tokenizer and defaults', async () => {
    const model = await openModel(BUNDLED, platform)
    expect(model).toMatchObject({
      name: 'storyteller',
      format: 'safetensors',
      generationDefaults: { temperature: 0.7, topP: 0.95 },
    })
    const files = await model.tokenizerFiles()
    expect(files?.chatTemplate).toContain('<|begin|>')
    expect(files?.tokenizer['model']).toBeDefined()
    await model.close()
  })

  it('has no tokenizer where the folder holds none', async () => {
    const model = await openModel(`${GQA}/`, platform)
    expect(model.name).toBe('llama-gqa')
    expect(await model.tokenizerFiles()).toBeUndefined()
    await model.close()
  })

  it.each([
    ['/no/such/folder', 'not_found', /no such model folder or file/],
    [VECTORS, 'not_found', /no config\.json/],
    [join(GQA, 'config.json'), 'not_supported', /a folder or a \.gguf file/],
  ])('%s: %s', async (path, code, message) => {
    await expect(openModel(path, platform)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('reads sharded weights and names without prefix as the same model data', async () => {
    const tensors = await gqaTensors()
    const plain = tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace(/^model\./, '') }))
    const weightMap: Record<string, string> = {}
    const shards: Record<string, Uint8Array> = {}
    for (const [shard, part] of [plain.slice(0, 7), plain.slice(7)].entries()) {
      shards[`model-${shard}.safetensors`] = writeSafetensors(part)
      for (const { name } of part) weightMap[name] = `model-${shard}.safetensors`
    }
    const sharded = await openModelFolder(
      memoryFolder({
        'config.json': gqaConfig,
        'model.safetensors.index.json': JSON.stringify({
          metadata: { total_size: 1 },
          weight_map: weightMap,
        }),
        ...shards,
      }),
      { name: 'sharded' },
    )
    const single = await openModel(GQA, platform)
    for (const role of blockRoles(single.spec)) {
      expect((await sharded.weights.block(2, role)).bytes).toEqual(
        (await single.weights.block(2, role)).bytes,
      )
    }
    expect((await sharded.weights.client('head')).bytes).toEqual((await single.weights.client('head')).bytes)
    await single.close()
  })

  it('says that pickled weights are not read', async () => {
    const folder = memoryFolder({ 'config.json': gqaConfig, 'pytorch_model.bin': 'x' })
    await expect(openModelFolder(folder, { name: 'x' })).rejects.toThrow(/pickled weights are not read/)
  })

  it('takes chat_template.jinja before tokenizer_config.json, and the default of several templates', async () => {
    const base = {
      'config.json': gqaConfig,
      'model.safetensors': readFileSync(join(GQA, 'model.safetensors')),
      'tokenizer.json': '{}',
    }
    const template = async (files: Record<string, string>) => {
      const model = await openModelFolder(memoryFolder({ ...base, ...files }), { name: 'x' })
      return (await model.tokenizerFiles())?.chatTemplate
    }
    const config = (value: unknown) => ({ 'tokenizer_config.json': JSON.stringify({ chat_template: value }) })
    expect(await template(config('one'))).toBe('one')
    expect(await template({ ...config('one'), 'chat_template.jinja': 'file' })).toBe('file')
    expect(
      await template(
        config([
          { name: 'rag', template: 'a' },
          { name: 'default', template: 'b' },
        ]),
      ),
    ).toBe('b')
    expect(await template({})).toBeUndefined()
    await expect(template(config(7))).rejects.toMatchObject({ code: 'bad_file', field: 'chat_template' })
  })
})

describe('model id', () => {
  const idOf = async (config: string, tensors: readonly NamedTensor[], name = 'org/m') => {
    const folder = memoryFolder({ 'config.json': config, 'model.safetensors': writeSafetensors(tensors) })
    return (await openModelFolder(folder, { name })).id
  }

  it('does not change with the place, the order of keys and tensors, or who wrote the config', async () => {
    const tensors = await gqaTensors()
    const config = JSON.parse(gqaConfig) as Record<string, unknown>
    const id = await idOf(gqaConfig, tensors)
    expect(id).toMatch(/^m@[0-9a-f]{12}$/)
    const shuffled = Object.fromEntries(
      Object.entries({ ...config, transformers_version: '4.0.0' }).reverse(),
    )
    expect(await idOf(JSON.stringify(shuffled), [...tensors].reverse())).toBe(id)
    expect(await idOf(gqaConfig, tensors, '/elsewhere/m')).toBe(id)
  })

  it('changes with the config, a tensor name and the weights', async () => {
    const tensors = await gqaTensors()
    const id = await idOf(gqaConfig, tensors)
    const config = JSON.stringify({ ...(JSON.parse(gqaConfig) as object), rms_norm_eps: 1e-6 })
    expect(await idOf(config, tensors)).not.toBe(id)
    expect(
      await idOf(gqaConfig, [...tensors, { name: 'x', dtype: 'U8', shape: [0], data: new Uint8Array() }]),
    ).not.toBe(id)
    const [first] = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))
    const changed = { ...first!, data: (first!.data as Float32Array).map((value) => value + 1) }
    expect(await idOf(gqaConfig, [changed, ...tensors.filter(({ name }) => name !== changed.name)])).not.toBe(
      id,
    )
  })
})

describe('weights', () => {
  /** Opens a vector folder with every read of its weights counted. */
  async function counted(path: string) {
    const local = localFolder(platform.files, path)
    let source: ReturnType<typeof countingSource> | undefined
    const folder: ModelFolder = {
      ...local,
      open: async (file) => {
        const opened: ByteSource | undefined = await local.open(file)
        if (file !== 'model.safetensors' || opened === undefined) return opened
        source = countingSource(opened)
        return source
      },
    }
    const model = await openModelFolder(folder, { name: 'counted' })
    return { model, source: source! }
  }

  it('reads exactly the tensors of the blocks that are asked for', async () => {
    const { model, source } = await counted(GQA)
    const table = await readSafetensors(source)
    source.reads.length = 0
    for (const role of blockRoles(model.spec)) await model.weights.block(2, role)
    const expected = [...table.values()]
      .filter(({ name }) => name.startsWith('model.layers.2.'))
      .map(({ byteLength, offset }) => ({ offset, length: byteLength }))
    const byOffset = (a: { offset: number }, b: { offset: number }) => a.offset - b.offset
    expect(source.reads.sort(byOffset)).toEqual(expected.sort(byOffset))
    await model.close()
  })

  it('reads nothing for information about weights', async () => {
    const { model, source } = await counted(GQA)
    source.reads.length = 0
    expect(model.weights.blockInfo(0, 'q')).toEqual({ dtype: 'F32', shape: [64, 64] })
    expect(weighModel(model)).toMatchObject({
      totalBytes: expect.any(Number),
      dtypeBytes: { F32: expect.any(Number) },
    })
    expect(weighModel(model).blockBytes).toHaveLength(4)
    expect(source.reads).toEqual([])
    await model.close()
  })

  it('announces a block once, as a whole, to sources that fetch from far', async () => {
    const bytes = readFileSync(join(GQA, 'model.safetensors'))
    const announced: number[] = []
    const far: ByteSource = {
      ...memorySource('far', bytes),
      prefetch: async (ranges) => void announced.push(ranges.length),
    }
    const folder = memoryFolder({ 'config.json': gqaConfig })
    const model = await openModelFolder(
      { ...folder, open: async (file) => (file === 'model.safetensors' ? far : await folder.open(file)) },
      { name: 'far' },
    )
    await model.weights.block(1, 'q')
    await model.weights.block(1, 'k')
    await model.weights.block(0, 'k')
    expect(announced).toEqual([9, 9])
  })
})

describe('loadEmbedding', () => {
  it('gathers what enters block 0, as the reference says', async () => {
    for (const name of ['llama-gqa', 'llama3-rope-scaled']) {
      const folder = join(VECTORS, name)
      const reference = await readTensors(
        memorySource('r', readFileSync(join(folder, 'reference.safetensors'))),
      )
      const model = await openModel(folder, platform)
      const embedding = await loadEmbedding(model)
      const hidden = embedding.gather(reference.get('input_ids')!.data)
      expect(hidden.shape).toEqual(reference.get('hidden.0')!.shape)
      expect(hidden.data).toEqual(reference.get('hidden.0')!.data)
      await model.close()
    }
  })

  it('refuses ids outside the vocabulary', async () => {
    const model = await openModel(GQA, platform)
    const embedding = await loadEmbedding(model)
    for (const id of [-1, 320, 1.5, NaN]) {
      expect(() => embedding.gather([0, id])).toThrow(expect.objectContaining({ code: 'bad_request' }))
    }
    expect(embedding.gather([]).shape).toEqual([0, 64])
    await model.close()
  })
})

describe('createFileStore', () => {
  it('refuses ranges outside a file and files that are none', async () => {
    const source = await platform.files.open(join(GQA, 'config.json'))
    await expect(source.read(source.size - 1, 2)).rejects.toMatchObject({ code: 'bad_file' })
    await expect(source.read(-1, 1)).rejects.toMatchObject({ code: 'bad_file' })
    await expect(source.read(0, 2 ** 53)).rejects.toMatchObject({ code: 'bad_file' })
    await source.close()
    await source.close()
    await expect(platform.files.open('/no/such')).rejects.toMatchObject({ code: 'not_found' })
    await expect(platform.files.readText(GQA)).rejects.toMatchObject({ code: 'bad_file' })
    expect(await platform.files.stat(GQA)).toBe('folder')
    expect(await platform.files.list(GQA)).toContain('config.json')
  })
})
