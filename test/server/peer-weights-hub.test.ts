import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createCacheStore } from '../../node/cache-store.ts'
import { isWhole } from '../../node/cli/serve/peer-files.ts'
import { createFileStore } from '../../node/file-store.ts'
import { silentLogger } from '../../src/log.ts'
import { describeWeights } from '../../src/model/manifest.ts'
import { openModel } from '../../src/model/open-model.ts'
import { openPeerWeights, type WeightsProgress } from '../../src/server/peer-weights.ts'
import { openBlobStore } from '../../src/store/blob-store.ts'
import { pullModel } from '../../src/store/pull-model.ts'
import { type ModelPorts, resolveModel } from '../../src/store/resolve-model.ts'
import { BUNDLED } from '../model/files.ts'
import { type FakeHub, startFakeHub } from '../store/fake-hub.ts'

/** Another organisation's copy of the bundled model: the same files, so the same id and manifest. */
const REPO = 'org/storyteller'
const NAMES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'model.safetensors',
]

describe('weights that no peer gives', () => {
  let hub: FakeHub
  let folder: string
  let ports: ModelPorts

  beforeEach(async () => {
    hub = await startFakeHub(
      REPO,
      Object.fromEntries(NAMES.map((file) => [file, readFileSync(join(BUNDLED, file))])),
    )
    folder = await mkdtemp(join(tmpdir(), 'chorale-hub-weights-'))
    ports = {
      files: createFileStore(),
      cache: createCacheStore(folder),
      log: silentLogger,
      bundled: new Map(),
      endpoint: hub.endpoint,
      retryDelayMs: 1,
    }
  })
  afterEach(async () => {
    await hub.stop()
    await rm(folder, { recursive: true })
  })

  it('come from the hub by range, the span’s and little more, and are the same', async () => {
    const local = await openModel(BUNDLED, ports)
    const store = openBlobStore(ports.cache)
    let last: WeightsProgress | undefined
    const weights = openPeerWeights({
      manifest: await describeWeights(local),
      store,
      ask: () => Promise.reject(new Error('there is nobody')),
      sources: async () => [],
      fallback: () => resolveModel(REPO, ports),
      aloneMs: 100,
      onProgress: (progress) => (last = progress),
      log: silentLogger,
    })
    await weights.fetchSpan({ start: 3, end: 4 })
    expect(last).toMatchObject({ cachedBytes: 0, fallbackBytes: last!.totalBytes })
    for (const role of ['q', 'down'] as const) {
      const { bytes } = await weights.model.weights.block(3, role)
      expect(Buffer.compare(bytes, (await local.weights.block(3, role)).bytes)).toBe(0)
    }
    const whole = readFileSync(join(BUNDLED, 'model.safetensors')).length
    expect(hub.sentBytes()).toBeLessThan(whole)
    // Opening read places all over the file, but a server of a span holds no whole model to describe.
    expect(await isWhole(REPO, ports)).toBe(false)
    await weights.close()
    await store.close()
    await local.close()
  })

  it('a hub model is whole once it was pulled', async () => {
    await pullModel(REPO, ports)
    expect(await isWhole(REPO, ports)).toBe(true)
    expect(await isWhole(BUNDLED, ports)).toBe(true)
    const pulled = await resolveModel(REPO, ports)
    const local = await openModel(BUNDLED, ports)
    expect((await describeWeights(pulled)).hash).toBe((await describeWeights(local)).hash)
    await pulled.close()
    await local.close()
  })
})
