import { readFileSync } from 'node:fs'
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createCacheStore } from '../../node/cache-store.ts'
import { createFileStore } from '../../node/file-store.ts'
import { createLogger } from '../../src/log.ts'
import { openModel } from '../../src/model/open-model.ts'
import { blockRoles } from '../../src/model/weights.ts'
import { cachedModels, removeCachedModel } from '../../src/store/cached-models.ts'
import { CHUNK_BYTES } from '../../src/store/chunk-file.ts'
import { isHubName } from '../../src/store/hub.ts'
import { pullModel } from '../../src/store/pull-model.ts'
import { type ModelPorts, resolveModel } from '../../src/store/resolve-model.ts'
import { BUNDLED, VECTORS } from '../model/files.ts'
import { writeGguf, tinyLlama } from '../model/write-gguf.ts'
import { COMMIT, type FakeHub, startFakeHub } from './fake-hub.ts'

const REPO = 'org/story-teller'
const WEIGHTS = readFileSync(join(BUNDLED, 'model.safetensors'))
const FILES = Object.fromEntries(
  [
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'model.safetensors',
  ].map((file) => [file, readFileSync(join(BUNDLED, file))]),
)

let hub: FakeHub
let folder: string
let logged: string[]

beforeEach(async () => {
  hub = await startFakeHub(REPO, FILES)
  folder = await mkdtemp(join(tmpdir(), 'chorale-store-'))
  logged = []
})
afterEach(async () => {
  await hub.stop()
  await rm(folder, { recursive: true, force: true })
})

const ports = (change: Partial<ModelPorts> = {}): ModelPorts => ({
  files: createFileStore(),
  cache: createCacheStore(folder),
  log: createLogger('trace', (line) => logged.push(JSON.stringify(line))),
  bundled: new Map([['storyteller', BUNDLED]]),
  endpoint: hub.endpoint,
  retryDelayMs: 1,
  idleTimeoutMs: 500,
  ...change,
})
const gets = () => hub.seen.filter(({ method }) => method === 'GET')

/** Opens a hub model and reads one block of it whole; returns the bytes of its q. */
async function readBlock(block: number, change: Partial<ModelPorts> = {}): Promise<Uint8Array> {
  const model = await resolveModel(REPO, ports(change))
  try {
    let q: Uint8Array | undefined
    for (const role of blockRoles(model.spec)) {
      const { bytes } = await model.weights.block(block, role)
      if (role === 'q') q = bytes
    }
    return q!
  } finally {
    await model.close()
  }
}
async function localBlock(block: number): Promise<Uint8Array> {
  const model = await openModel(BUNDLED, { files: createFileStore() })
  const { bytes } = await model.weights.block(block, 'q')
  await model.close()
  return bytes
}

describe('isHubName', () => {
  it('takes org/repo and a .gguf in it, and nothing that leaves the cache', () => {
    for (const name of ['a/b', 'HuggingFaceTB/SmolLM2-135M-Instruct', 'a/b/c.gguf', 'a/b/q4/c.gguf']) {
      expect(isHubName(name)).toBe(true)
    }
    for (const name of [
      '',
      'a',
      './a',
      '/a/b',
      'a/..',
      'a/b/',
      'a/b/c',
      'a/b..c',
      'a b/c',
      'a/b/../c.gguf',
      `a/${'b'.repeat(97)}`,
    ]) {
      expect(isHubName(name)).toBe(false)
    }
  })
})

describe('resolveModel', () => {
  it('takes bundled names, then paths, then hub names', async () => {
    const bundled = await resolveModel('storyteller', ports())
    const local = await resolveModel(join(VECTORS, 'llama-gqa'), ports())
    const remote = await resolveModel(REPO, ports())
    expect([bundled.name, local.name, remote.name]).toEqual(['storyteller', 'llama-gqa', REPO])
    expect(remote.id.split('@')[1]).toBe(bundled.id.split('@')[1])
    expect((await remote.tokenizerFiles())?.tokenizer).toEqual((await bundled.tokenizerFiles())?.tokenizer)
    await Promise.all([bundled.close(), local.close(), remote.close()])
    await expect(resolveModel('nonsense', ports())).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('storyteller'),
    })
  })

  it('fetches only chunks of the tensors it needs, neighbours in one request, and nothing twice', async () => {
    const model = await resolveModel(REPO, ports())
    const forId = hub.sentBytes()
    const before = gets().length
    for (const role of blockRoles(model.spec)) await model.weights.block(7, role)
    expect(gets().length - before).toBeLessThanOrEqual(2 * 2) // each through a redirect
    expect(hub.sentBytes() - forId).toBeLessThan(788_000 + 2 * CHUNK_BYTES)
    await model.close()
    const sent = hub.sentBytes()
    expect(await readBlock(7)).toEqual(await localBlock(7))
    expect(hub.sentBytes()).toBe(sent)
  })

  it('pins the revision to its commit', async () => {
    const model = await resolveModel(REPO, ports(), { revision: 'v1' })
    await model.close()
    const [first, ...rest] = hub.seen.filter(({ path }) => path.includes('/resolve/'))
    expect(first?.path).toContain('/resolve/v1/')
    for (const { path } of rest) expect(path).toContain(`/resolve/${COMMIT}/`)
  })

  it('sends the token to the hub alone and never logs it', async () => {
    await readBlock(0, { token: 'hf_secret' })
    const toHub = hub.seen.filter(({ path }) => path.includes('/resolve/'))
    const toCdn = hub.seen.filter(({ path }) => !path.includes('/resolve/'))
    expect(toHub.every(({ authorization }) => authorization === 'Bearer hf_secret')).toBe(true)
    expect(toCdn.length).toBeGreaterThan(0)
    expect(toCdn.some(({ authorization }) => authorization !== undefined)).toBe(false)
    expect(logged.join('')).not.toContain('hf_secret')
  })

  it('opens a .gguf of a repository', async () => {
    hub.files.set('q/tiny.gguf', writeGguf(tinyLlama()))
    const model = await resolveModel(`${REPO}/q/tiny.gguf`, ports())
    expect(model).toMatchObject({ format: 'gguf', spec: { hiddenSize: 8 } })
    expect(model.id).toMatch(/^tiny\.gguf@/)
    await model.close()
  })

  it.each([
    [{ status: 401 }, 'bad_config', /set HF_TOKEN/],
    [{ status: 403, code: 'GatedRepo' }, 'bad_config', /set HF_TOKEN/],
    [{ status: 404, code: 'RepoNotFound' }, 'not_found', /org\/story-teller.*404/],
    [{ status: 404, code: 'EntryNotFound' }, 'not_found', /no config\.json at revision main: unknown model/],
    [{ status: 500 }, 'unreachable', /not in the cache.*status 500.*work offline/],
  ])('says what a person can do: %j', async (refuse, code, message) => {
    hub.refuse = refuse
    await expect(resolveModel(REPO, ports())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it.each(['../x', 'a b', '', '.'])('refuses the revision %j', async (revision) => {
    await expect(resolveModel(REPO, ports(), { revision })).rejects.toMatchObject({ code: 'bad_config' })
  })

  it('refuses an HF_ENDPOINT that is no URL', async () => {
    await expect(resolveModel(REPO, ports({ endpoint: 'file:///etc' }))).rejects.toThrow(/HF_ENDPOINT/)
  })
})

describe('ranges over HTTP', () => {
  it('goes on where a body broke off, and survives errors that pass', async () => {
    let failures = 0
    hub.misbehave = (request, response, body) => {
      const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
      if (match === null || failures++ % 3 === 2) return false
      if (failures % 3 === 2) {
        response.writeHead(503, { 'retry-after': '0' }).end()
        return true
      }
      const [start, end] = [Number(match[1]), Number(match[2])]
      response.writeHead(206, {
        'content-length': end + 1 - start,
        'content-range': `bytes ${start}-${end}/${body.length}`,
      })
      response.write(body.subarray(start, start + Math.ceil((end + 1 - start) / 2)), () => response.destroy())
      return true
    }
    expect(await readBlock(3)).toEqual(await localBlock(3))
    expect(failures).toBeGreaterThan(3)
  })

  it('gives up on a server that sends nothing, naming it', async () => {
    hub.misbehave = () => true // never answers
    const started = Date.now()
    await expect(resolveModel(REPO, ports({ idleTimeoutMs: 20 }))).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining(new URL(hub.endpoint).host),
    })
    expect(Date.now() - started).toBeLessThan(5000)
  })

  it.each([
    ['another start', 'bytes 1-4/SIZE'],
    ['another size', 'bytes 0-4/77'],
    ['no range', ''],
  ])('refuses a content-range that says %s', async (_what, header) => {
    hub.misbehave = (_request, response, body) => {
      const value = header.replace('SIZE', String(body.length))
      response.writeHead(206, value === '' ? {} : { 'content-range': value }).end('12345')
      return true
    }
    await expect(resolveModel(REPO, ports())).rejects.toMatchObject({
      code: 'bad_file',
      field: 'content-range',
    })
  })

  it('reads small files from servers that ignore Range', async () => {
    hub.misbehave = (_request, response, body) => {
      response.writeHead(200, { 'content-length': body.length }).end(body)
      return true
    }
    expect(await readBlock(5)).toEqual(await localBlock(5))
  })

  it('refuses a file that changed its size', async () => {
    hub.misbehave = (_request, response, body) => {
      response.writeHead(200, { 'content-length': body.length - 1 }).end(body.subarray(1))
      return true
    }
    await expect(resolveModel(REPO, ports())).rejects.toThrow(/bytes now, had/)
  })

  it('stops when asked to', async () => {
    hub.misbehave = () => true
    const stop = new AbortController()
    const opening = resolveModel(REPO, ports({ idleTimeoutMs: 60_000 }), { signal: stop.signal })
    setTimeout(() => stop.abort(), 50)
    await expect(opening).rejects.toMatchObject({ name: 'AbortError' })
  })
})

describe('pullModel and the cache', () => {
  it('fetches everything once and then works without network', async () => {
    const progress: { loadedBytes: number; totalBytes: number }[] = []
    const pulled = await pullModel(REPO, ports(), { onProgress: (state) => void progress.push(state) })
    expect(pulled.files.map(({ name }) => name)).toEqual(Object.keys(FILES))
    const total = Object.values(FILES).reduce((sum, { length }) => sum + length, 0)
    expect(hub.sentBytes()).toBe(total)
    expect(progress.at(-1)).toEqual({ loadedBytes: total, totalBytes: total })
    await hub.stop()
    expect(await readBlock(1)).toEqual(await localBlock(1))
    expect((await cachedModels(ports().cache))[0]).toMatchObject({
      name: REPO,
      revisions: { main: COMMIT },
      missingBytes: 0,
    })
  })

  it('says what is missing when a model was only read in part and the network is gone', async () => {
    await readBlock(0)
    await hub.stop()
    expect(await readBlock(0)).toEqual(await localBlock(0))
    await expect(readBlock(4)).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining(new URL(hub.endpoint).host),
    })
    const [model] = await cachedModels(ports().cache)
    expect(model?.missingBytes).toBeGreaterThan(WEIGHTS.length / 4)
  })

  it('goes on after a crash: what was complete stays, a torn journal line does not count', async () => {
    const half = Math.floor(WEIGHTS.length / 2)
    let cuts = 0
    hub.misbehave = (_request, response, body) => {
      if (body.length !== WEIGHTS.length) return false
      if (cuts++ > 0) response.destroy()
      else {
        response.writeHead(206, { 'content-range': `bytes 0-${body.length - 1}/${body.length}` })
        response.write(body.subarray(0, half), () => setTimeout(() => response.destroy(), 50))
      }
      return true
    }
    await expect(pullModel(REPO, ports())).rejects.toMatchObject({ code: 'unreachable' })
    const before = hub.sentBytes()
    const blobs = join(folder, 'hub', encodeURIComponent(REPO), 'blobs')
    for (const file of await readdir(blobs)) {
      if (!file.endsWith('.chunks')) continue
      const handle = await open(join(blobs, file), 'a')
      await handle.write('\n0 0123456')
      await handle.close()
    }
    hub.misbehave = undefined
    await pullModel(REPO, ports())
    const again = hub.sentBytes() - before
    expect(again).toBeGreaterThan(half)
    expect(again).toBeLessThan(WEIGHTS.length - half + 2 * CHUNK_BYTES)
    expect(await readBlock(2)).toEqual(await localBlock(2))
  })

  it('fetches chunks again whose bytes on disk changed', async () => {
    await pullModel(REPO, ports())
    const blobs = join(folder, 'hub', encodeURIComponent(REPO), 'blobs')
    for (const file of await readdir(blobs)) {
      if (file.endsWith('.chunks')) continue
      const handle = await open(join(blobs, file), 'r+')
      await handle.write(Uint8Array.of(0xff, 0xfe, 0xfd), 0, 3, 100)
      await handle.close()
    }
    const sent = hub.sentBytes()
    expect(await readBlock(0)).toEqual(await localBlock(0))
    expect(hub.sentBytes()).toBeGreaterThan(sent)
  })

  it('refuses a complete file whose SHA-256 is not the promised one, and keeps nothing of it', async () => {
    hub.misbehave = (request, response, body) => {
      if (body.length !== WEIGHTS.length) return false
      const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
      const [start, end] = [Number(match?.[1]), Number(match?.[2])]
      const wrong = Uint8Array.from(body.subarray(start, end + 1))
      wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1
      response.writeHead(206, { 'content-range': `bytes ${start}-${end}/${body.length}` }).end(wrong)
      return true
    }
    await expect(pullModel(REPO, ports())).rejects.toMatchObject({ code: 'bad_file', field: 'sha256' })
    hub.misbehave = undefined
    await pullModel(REPO, ports())
    expect(await readBlock(6)).toEqual(await localBlock(6))
  })

  it('lets several readers share one cache at a time', async () => {
    const blocks = await Promise.all([0, 1, 0, 1, 2, 0].map(async (block) => await readBlock(block)))
    expect(blocks[0]).toEqual(await localBlock(0))
    expect(blocks[3]).toEqual(await localBlock(1))
    expect(blocks[5]).toEqual(blocks[0])
    await pullModel(REPO, ports())
    expect((await cachedModels(ports().cache))[0]?.missingBytes).toBe(0)
  })

  it('follows a file that changes on a server without commits', async () => {
    hub.pinned = false
    const first = await resolveModel(REPO, ports())
    await first.close()
    const config = JSON.parse(new TextDecoder().decode(FILES['config.json'])) as Record<string, unknown>
    hub.files.set(
      'config.json',
      new TextEncoder().encode(JSON.stringify({ ...config, max_position_embeddings: 77 })),
    )
    const second = await resolveModel(REPO, ports())
    expect([first.spec.contextLength, second.spec.contextLength]).toEqual([1024, 77])
    await second.close()
    await hub.stop()
    const offline = await resolveModel(REPO, ports())
    expect(offline.spec.contextLength).toBe(77)
    await offline.close()
  })

  it('pulls shards by their index and refuses an index that leaves the repository', async () => {
    hub.files.delete('model.safetensors')
    const index = (file: string) => new TextEncoder().encode(JSON.stringify({ weight_map: { a: file } }))
    hub.files.set('model.safetensors.index.json', index('../../config.json'))
    await expect(pullModel(REPO, ports())).rejects.toMatchObject({ code: 'bad_file', field: 'weight_map' })
    hub.files.set('model.safetensors.index.json', index('m-1.safetensors'))
    hub.files.set('m-1.safetensors', WEIGHTS)
    await rm(folder, { recursive: true, force: true })
    expect((await pullModel(REPO, ports())).files.map(({ name }) => name)).toContain('m-1.safetensors')
  })

  it('ignores damaged records, removes what it is told to and lists nothing then', async () => {
    await pullModel(REPO, ports())
    const records = join(folder, 'hub', encodeURIComponent(REPO), 'snapshots', COMMIT)
    for (const file of await readdir(records)) await writeFile(join(records, file), '{"size":-1')
    expect(await readBlock(0)).toEqual(await localBlock(0))
    const { cache } = ports()
    expect(await removeCachedModel(cache, 'org/other')).toBe(false)
    expect(await removeCachedModel(cache, REPO)).toBe(true)
    expect(await cachedModels(cache)).toEqual([])
  })

  it('says where the cache is when it can not be written', async () => {
    await writeFile(join(folder, 'file'), '')
    const cache = createCacheStore(join(folder, 'file'))
    await expect(pullModel(REPO, ports({ cache }))).rejects.toThrow(/XDG_CACHE_HOME/)
  })
})
