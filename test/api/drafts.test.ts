import { describe, expect, it } from 'vitest'
import { firstBlocks } from '../../node/cli/bench/draft-models.ts'
import { openModelArgument } from '../../node/open-model-argument.ts'
import { createApp } from '../../src/api/app.ts'
import { fakeLanguageModel } from './fake-language-model.ts'

describe('drafts of a gateway', () => {
  it('are given in parts by their id, and can be asked nothing', async () => {
    const model = await openModelArgument()
    const draft = { ...firstBlocks(model, 2), id: 'small@0123456789ab' }
    const asked = fakeLanguageModel()
    const app = createApp({ models: () => [asked], version: '0', drafts: () => [draft] })
    const get = async (path: string) => await app.request(path)
    const id = encodeURIComponent(draft.id)

    const part = (await (await get(`/api/v1/client/${id}`)).json()) as {
      id: string
      spec: { blockCount: number }
    }
    expect(part).toMatchObject({ id: draft.id, spec: { blockCount: 2 } })
    const bytes = await (await get(`/api/v1/blocks/${id}/1/bytes`)).arrayBuffer()
    const described = (await (await get(`/api/v1/blocks/${id}/1`)).json()) as { byteLength: number }
    expect(bytes.byteLength).toBe(described.byteLength)
    expect((await get(`/api/v1/blocks/${id}/2`)).status).toBe(404)
    // Not by its name: that is for models one can ask.
    expect((await get('/api/v1/client/small')).status).toBe(404)

    const list = (await (await get('/v1/models')).json()) as { data: { id: string }[] }
    expect(list.data.map((one) => one.id)).toEqual([asked.model.id])
    const response = await app.request('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: draft.id, messages: [{ role: 'user', content: 'Hello' }] }),
    })
    expect(response.status).toBe(404)
    await model.close()
  })
})
