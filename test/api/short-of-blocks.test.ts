import { describe, expect, it } from 'vitest'
import { createApp, type AppOptions } from '../../src/api/app.ts'
import { ChoraleError } from '../../src/errors.ts'
import { coverModel } from '../../src/routing/model-coverage.ts'
import type { LanguageModel } from '../../src/session/language-model.ts'
import type { NetworkModel } from '../../src/session/network-models.ts'
import { serverRecord } from '../contract/directory.ts'
import { fakeLanguageModel } from './fake-language-model.ts'

interface ErrorBody {
  readonly error: Record<string, unknown>
}

/** A model whose blocks 3:6 have no server until `serve()`. */
function shortModel(): {
  readonly model: LanguageModel
  readonly serve: () => void
  readonly looks: () => number
} {
  let missing = [{ start: 3, end: 6 }]
  let looks = 0
  const fake = fakeLanguageModel()
  return {
    model: {
      ...fake,
      readiness: async () => {
        looks++
        return { ready: missing.length === 0, missing }
      },
      generate: async function* (request) {
        if (missing.length > 0) throw new ChoraleError('no_chain', 'no server holds blocks 3:6')
        yield* fake.generate(request)
      },
    },
    serve: () => {
      missing = []
    },
    looks: () => looks,
  }
}

function gateway(models: readonly LanguageModel[], options: Partial<AppOptions> = {}) {
  const app = createApp({ models: () => models, version: '0', ...options })
  const ask = (headers: Record<string, string> = {}, more: object = {}, path = '/v1/chat/completions') =>
    app.request(path, {
      method: 'POST',
      headers,
      body: JSON.stringify({
        model: 'tests/fake@0123456789ab',
        ...(path.endsWith('chat/completions')
          ? { messages: [{ role: 'user', content: 'x' }] }
          : { prompt: 'x' }),
        ...more,
      }),
    })
  return { app, ask }
}

describe('a request for a model that is short of blocks', () => {
  it.each([
    ['/v1/chat/completions', false],
    ['/v1/chat/completions', true],
    ['/v1/completions', false],
    ['/v1/completions', true],
  ])('%s (stream %s): 503 names them, the complete models, and when to come back', async (path, stream) => {
    const whole = fakeLanguageModel({ name: 'tests/whole' })
    const { ask } = gateway([shortModel().model, whole])
    const response = await ask({}, { stream }, path)
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('10')
    const { error } = (await response.json()) as ErrorBody
    expect(error).toMatchObject({
      type: 'unavailable_error',
      code: 'no_chain',
      missing_blocks: [[3, 6]],
      complete_models: [whole.model.id],
    })
    expect(error['message']).toMatch(
      /no server holds blocks 3:6 of tests\/fake@.*--blocks 3:6.*x-chorale-wait/,
    )
  })

  it('waits when asked to, and answers as soon as the blocks are served', async () => {
    const short = shortModel()
    // The gateway's clock runs a hundred times as fast, so that it looks again at once.
    const { ask } = gateway([short.model], { now: () => performance.now() * 100 })
    const answer = ask({ 'x-chorale-wait': '600' })
    while (short.looks() < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    short.serve()
    expect((await answer).status).toBe(200)
  })

  it('waits no longer than asked', async () => {
    const { ask } = gateway([shortModel().model])
    const started = performance.now()
    const response = await ask({ 'x-chorale-wait': '1' })
    expect(response.status).toBe(503)
    expect(performance.now() - started).toBeGreaterThan(900)
  })

  it('a client that leaves waits no more', async () => {
    const short = shortModel()
    const { app } = gateway([short.model])
    const controller = new AbortController()
    const body = JSON.stringify({ model: 'tests/fake', messages: [{ role: 'user', content: 'x' }] })
    const headers = { 'x-chorale-wait': '60' }
    const url = 'http://localhost/v1/chat/completions'
    const answer = app.request(new Request(url, { method: 'POST', headers, body, signal: controller.signal }))
    while (short.looks() < 1) await new Promise((resolve) => setTimeout(resolve, 5))
    controller.abort()
    expect((await answer).status).toBe(499)
  })

  it('more waiters than may wait fail at once', async () => {
    const { ask } = gateway([shortModel().model], { limits: { waiting: 0 } })
    const started = performance.now()
    expect((await ask({ 'x-chorale-wait': '60' })).status).toBe(503)
    expect(performance.now() - started).toBeLessThan(5_000)
  })

  it.each(['soon', '-1', '1.5', '601', ''])('x-chorale-wait: %j is refused', async (seconds) => {
    const { ask } = gateway([fakeLanguageModel()])
    const response = await ask({ 'x-chorale-wait': seconds })
    expect(response.status).toBe(400)
    expect(((await response.json()) as ErrorBody).error['param']).toBe('x-chorale-wait')
  })
})

describe('GET /v1/models', () => {
  const other = { modelId: 'other@1', name: 'other', blockCount: 4, hiddenSize: 8, precision: 'q4_0' }
  const records = [serverRecord('a', 0, { start: 0, end: 3, modelId: 'other@1' })]
  const network: readonly NetworkModel[] = [{ model: other, records, ...coverModel(4, records) }]

  it('lists the network’s other models too, with what they lack', async () => {
    const { app } = gateway([fakeLanguageModel()], { networkModels: async () => network })
    const { data } = (await (await app.request('/v1/models')).json()) as { data: Record<string, unknown>[] }
    expect(data).toHaveLength(2)
    expect(data[0]).toMatchObject({ id: 'tests/fake@0123456789ab', meta: { available: true, ready: true } })
    const listed = {
      id: 'other@1',
      object: 'model',
      meta: {
        name: 'other',
        blocks: 4,
        quantization: 'q4_0',
        revision: null,
        available: false,
        ready: false,
        missing_blocks: [[3, 4]],
        weakest_block: { block: 3, servers: 0 },
        servers: 1,
      },
    }
    expect(data[1]).toMatchObject(listed)
    expect(await (await app.request('/v1/models/other@1')).json()).toMatchObject(listed)
    expect((await app.request('/v1/models/other@2')).status).toBe(404)
  })

  it('a request for one of the others says where it is', async () => {
    const { ask } = gateway([fakeLanguageModel()], { networkModels: async () => network })
    for (const model of ['other', 'other@1']) {
      const response = await ask({}, { model })
      expect(response.status).toBe(404)
      const { error } = (await response.json()) as ErrorBody
      expect(error['message']).toMatch(/other@1 is served in this network.*chorale gateway other$/)
      expect(error['code']).toBe('model_not_found')
    }
    expect(((await (await ask({}, { model: 'nobody' })).json()) as ErrorBody).error['message']).toMatch(
      /"nobody" is not served here/,
    )
  })

  it('a directory that does not answer hides nothing that is served here', async () => {
    const { app } = gateway([fakeLanguageModel()], {
      networkModels: async () => {
        throw new ChoraleError('unreachable', 'no directory peer answers')
      },
    })
    const { data } = (await (await app.request('/v1/models')).json()) as { data: unknown[] }
    expect(data).toHaveLength(1)
  })
})
