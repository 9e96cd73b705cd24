import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCacheStore } from '../../node/cache-store.ts'
import { modelsCommand } from '../../node/cli/models.ts'
import { createFileStore } from '../../node/file-store.ts'
import { silentLogger } from '../../src/log.ts'
import { openModel } from '../../src/model/open-model.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { quantize } from '../../src/tensor/quantize.ts'
import type { ModelPorts } from '../../src/store/resolve-model.ts'
import { BUNDLED, VECTORS } from '../model/files.ts'
import { COMMIT, type FakeHub, startFakeHub } from '../store/fake-hub.ts'

const GQA = join(VECTORS, 'llama-gqa')
const REPO = 'org/tiny'

let hub: FakeHub
let folder: string
let printed: string

beforeEach(async () => {
  const file = (name: string) => [name, readFileSync(join(GQA, name))]
  hub = await startFakeHub(REPO, Object.fromEntries([file('config.json'), file('model.safetensors')]))
  folder = await mkdtemp(join(tmpdir(), 'chorale-models-'))
  printed = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await hub.stop()
  await rm(folder, { recursive: true, force: true })
})

async function run(...args: string[]): Promise<string> {
  const ports: ModelPorts = {
    files: createFileStore(),
    cache: createCacheStore(folder),
    log: silentLogger,
    bundled: new Map([['storyteller', BUNDLED]]),
    endpoint: hub.endpoint,
    retryDelayMs: 1,
  }
  printed = ''
  await modelsCommand(() => ports).parseAsync(args, { from: 'user' })
  return printed
}
const json = async (...args: string[]): Promise<unknown> => JSON.parse(await run(...args, '--json'))

describe('chorale models', () => {
  it('quantize writes a model that opens with its matrices rounded and its tokenizer beside', async () => {
    const out = join(folder, 'q4')
    const made = await json('quantize', 'storyteller', '--bits', '4', '--out', out)
    expect(made).toMatchObject({ dtype: 'Q4_1', tensors: 57, out })
    const model = await openModel(out, { files: createFileStore() })
    expect(model.weights.blockInfo(0, 'q')).toEqual({ dtype: 'Q4_1', shape: [192, 192] })
    expect(model.weights.blockInfo(0, 'attentionNorm').dtype).toBe('F16')
    expect(model.weights.clientInfo('embedding').dtype).toBe('Q8_0')
    const { bytes } = await model.weights.block(0, 'q')
    const original = await openModel(BUNDLED, { files: createFileStore() })
    expect(bytes).toEqual(quantize('Q4_1', dequantize(await original.weights.block(0, 'q'))))
    expect(await model.tokenizerFiles()).toEqual(await original.tokenizerFiles())
    await model.close()
    await original.close()
    await expect(run('quantize', 'storyteller', '--bits', '8', '--out', out)).rejects.toThrow(
      /holds files already/,
    )
    await expect(run('quantize', out, '--bits', '8', '--out', join(folder, 'again'))).rejects.toThrow(
      /quantised already/,
    )
    await expect(run('quantize', 'storyteller', '--bits', '3', '--out', out)).rejects.toThrow(/give 4 or 8/)
  })

  it('show prints one JSON document with spec, sizes and id; the bundled model by default', async () => {
    const shown = await json('show')
    expect(shown).toMatchObject({
      name: 'storyteller',
      id: expect.stringMatching(/^storyteller@[0-9a-f]{12}$/),
      spec: { blockCount: 8, contextLength: 1024 },
      blockBytes: Array(8).fill(787_200),
      clientBytes: 786_816,
      dtypeBytes: { F16: 7_084_416 },
      tokenizer: 'BPE',
      chatTemplate: true,
    })
    expect(await run('show', GQA)).toMatch(/llama-gqa[^]*blocks +4[^]*tokenizer +none/)
  })

  it('pull, list and rm keep the books of the cache', async () => {
    expect(await json('list')).toMatchObject({ models: [{ name: 'storyteller', source: 'bundled' }] })
    expect(await json('pull', REPO)).toMatchObject({
      name: REPO,
      commit: COMMIT,
      files: [{ name: 'config.json' }, { name: 'model.safetensors' }],
    })
    expect(await json('list')).toMatchObject({
      models: [{}, { name: REPO, source: 'hub', complete: true, revisions: { main: COMMIT } }],
    })
    expect(await run('list')).toContain(`${REPO}  (hub, `)
    // Without a terminal nobody can say yes.
    await expect(run('rm', REPO)).rejects.toMatchObject({ code: 'cancelled' })
    expect(await json('rm', REPO, '--yes')).toMatchObject({ removed: REPO })
    expect(await json('list')).toMatchObject({ models: [{ name: 'storyteller' }] })
  })

  it('refuses to pull or remove what is not of the hub', async () => {
    await expect(run('pull', 'storyteller')).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('rm', 'storyteller', '--yes')).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('rm', 'org/other', '--yes')).rejects.toMatchObject({ code: 'not_found' })
    await expect(run('show', 'org/other')).rejects.toMatchObject({ code: 'not_found' })
  })
})
