import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { createApp } from '../../src/api/app.ts'
import { hashBlob } from '../../src/model/blob.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { fakeLanguageModel } from './fake-language-model.ts'

describe('weights of a gateway', () => {
  let model: Model
  beforeAll(async () => {
    model = await openModel(join(import.meta.dirname, '../../models/storyteller'), {
      files: createFileStore(),
    })
  })
  afterAll(() => model.close())

  const gateway = (givesWeights?: boolean) => {
    const asked = { ...fakeLanguageModel(), model }
    const app = createApp({
      models: () => [asked],
      version: '0',
      ...(givesWeights !== undefined && { givesWeights }),
    })
    return async (path: string, range?: string) =>
      await app.request(`http://127.0.0.1/api/v1/${path}`, range === undefined ? {} : { headers: { range } })
  }
  const bytesOf = async (response: Response) => new Uint8Array(await response.arrayBuffer())

  it('ranges begin and end where they are asked to', async () => {
    const get = gateway()
    const path = `blocks/${model.id}/2/bytes`
    const whole = await bytesOf(await get(path))
    const some = await get(path, 'bytes=100-299')
    expect([some.status, some.headers.get('content-range')]).toEqual([206, `bytes 100-299/${whole.length}`])
    expect(await bytesOf(some)).toEqual(whole.subarray(100, 300))
    const rest = await get(path, `bytes=${whole.length - 5}-`)
    expect(await bytesOf(rest)).toEqual(whole.subarray(whole.length - 5))
    const beyond = await get(path, `bytes=${whole.length - 5}-${whole.length + 100}`)
    expect([(await bytesOf(beyond)).length, beyond.status]).toEqual([5, 206])
    for (const wrong of [`bytes=${whole.length}-`, 'bytes=9-8', 'bytes=-5', 'bytes=x-', 'bytes=1-2,4-5']) {
      expect((await get(path, wrong)).status, wrong).toBe(416)
    }
  })

  it('descriptions name the root of every blob, also where the gateway gives none of the bytes', async () => {
    const get = gateway(false)
    const part = (await (await get(`client/${model.id}`)).json()) as ClientPart
    expect(part.given).toBe(false)
    const given = (await (await gateway(true)(`client/${model.id}`)).json()) as ClientPart
    expect(given.given).toBeUndefined()
    for (const { name, root, byteLength } of part.blobs) {
      const bytes = await bytesOf(await gateway()(`client/${model.id}/${name}`))
      const made = await hashBlob(byteLength, async (at, length) => bytes.subarray(at, at + length))
      expect(root, name).toBe(made.root)
    }
    const block = (await (await get(`blocks/${model.id}/0`)).json()) as { root: string }
    expect(block.root).toMatch(/^[0-9a-f]{64}$/)
    for (const path of [`client/${model.id}/embedding`, `blocks/${model.id}/0/bytes`]) {
      const refused = await get(path)
      expect(refused.status, path).toBe(404)
      expect(await refused.text()).toMatch(/gives no weights: peers of the network do/)
    }
  })
})
