import { serve, type ServerType } from '@hono/node-server'
import OpenAI from 'openai'
import { afterEach, describe, expect, it } from 'vitest'
import { createApp, type AppOptions } from '../../src/api/app.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { LanguageModel } from '../../src/session/language-model.ts'
import { EOS, fakeLanguageModel } from './fake-language-model.ts'

const servers: ServerType[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    if ('closeAllConnections' in server) server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

/** A real server on loopback and the official client. */
async function start(models: LanguageModel | LanguageModel[], options: Partial<AppOptions> = {}) {
  const list = Array.isArray(models) ? models : [models]
  const app = createApp({ models: () => list, version: '0.0.0-test', loopbackOnly: true, ...options })
  const port = await new Promise<number>((resolve) => {
    servers.push(serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, (info) => resolve(info.port)))
  })
  const url = `http://127.0.0.1:${port}`
  return { url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 }) }
}

const user = (content: string) => ({ model: 'tests/fake', messages: [{ role: 'user' as const, content }] })

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 5000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

interface Extras {
  timings: Record<string, number>
  swarm: {
    route: { peer: string; start: number; end: number; engine: string }[]
    failovers: number
    seed: string
  }
}

describe('chat completions', () => {
  it('answers whole, with usage, timings and route', async () => {
    const { client } = await start(fakeLanguageModel())
    const answer = await client.chat.completions.create({ ...user('wörld'), temperature: 0 })
    expect(answer.object).toBe('chat.completion')
    expect(answer.id).toMatch(/^chatcmpl-/)
    expect(answer.model).toBe('tests/fake@0123456789ab')
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello, wörld', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ])
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage!
    expect(completion_tokens).toBe(14)
    expect(total_tokens).toBe(prompt_tokens + completion_tokens)
    expect(answer.usage!.prompt_tokens_details).toEqual({ cached_tokens: 0 })
    const { timings, swarm } = answer as unknown as Extras
    expect(timings).toMatchObject({
      prompt_n: prompt_tokens,
      prompt_ms: 10,
      predicted_n: 14,
      predicted_ms: 20,
    })
    expect(timings['predicted_per_second']).toBeCloseTo(650)
    expect(swarm.route.map(({ start, end }) => [start, end])).toEqual([
      [0, 3],
      [3, 8],
    ])
    expect(swarm.failovers).toBe(0)
  })

  it('streams: role first, whole characters, separate finish chunk, usage last', async () => {
    const { client } = await start(fakeLanguageModel({ failoverAt: 3 }))
    const stream = await client.chat.completions.create({
      ...user('日本語 🦊'),
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(chunks[0]!.choices[0]).toMatchObject({
      delta: { role: 'assistant', content: '' },
      finish_reason: null,
    })
    const middle = chunks.slice(1, -2)
    expect(middle.map((chunk) => chunk.choices[0]!.delta.content).join('')).toBe('Hello, 日本語 🦊')
    for (const chunk of middle) {
      expect(Object.keys(chunk.choices[0]!.delta)).toEqual(['content'])
      expect(chunk.choices[0]!.delta.content).not.toContain('\uFFFD')
      expect(chunk.choices[0]!.finish_reason).toBeNull()
      expect(chunk.usage).toBeNull()
    }
    expect(chunks.at(-2).choices[0]).toMatchObject({ delta: {}, finish_reason: 'stop' })
    expect((chunks.at(-2) as unknown as Extras).swarm.failovers).toBe(1)
    expect(chunks.at(-1).choices).toEqual([])
    expect(chunks.at(-1).usage!.completion_tokens).toBe(22)
    for (const key of ['id', 'created', 'model', 'object', 'system_fingerprint'] as const) {
      expect(new Set(chunks.map((chunk) => chunk[key])).size).toBe(1)
    }
    expect(chunks[0]!.object).toBe('chat.completion.chunk')
    expect(chunks[0]!.system_fingerprint).toMatch(/^fp_[0-9a-f]{12}$/)
  })

  it('sends the headers and the framing that clients rely on', async () => {
    const { url } = await start(fakeLanguageModel())
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'x-request-id': 'mine-1' },
      body: JSON.stringify({ ...user('you'), stream: true }),
    })
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(response.headers.get('cache-control')).toBe('no-cache')
    expect(response.headers.get('x-accel-buffering')).toBe('no')
    expect(response.headers.get('x-request-id')).toBe('mine-1')
    const text = await response.text()
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
    expect(text.match(/^data: .*$/gm)!.length).toBe(text.split('\n\n').length - 1)
  })

  it('cuts before a stop string and never shows a part of it', async () => {
    const { client } = await start(fakeLanguageModel({ answer: () => 'one two STOP three' }))
    const request = { ...user('x'), stop: ['STOP', ' tree'] }
    const whole = await client.chat.completions.create(request)
    expect(whole.choices[0]!.message.content).toBe('one two ')
    expect(whole.choices[0]!.finish_reason).toBe('stop')
    let text = ''
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      text += chunk.choices[0]!.delta.content ?? ''
      expect(text).not.toMatch(/S/)
    }
    expect(text).toBe('one two ')
  })

  it('stops at max_tokens with finish reason length', async () => {
    const { client } = await start(fakeLanguageModel())
    for (const limit of [{ max_tokens: 5 }, { max_completion_tokens: 5 }]) {
      const answer = await client.chat.completions.create({ ...user('x'), ...limit })
      expect(answer.choices[0]!.message.content).toBe('Hello')
      expect(answer.choices[0]!.finish_reason).toBe('length')
    }
  })

  it('gives logprobs with bytes, whole and streamed alike, without the end-of-sequence token', async () => {
    const { client } = await start(fakeLanguageModel({ answer: () => 'é!' }))
    const request = { ...user('x'), logprobs: true, top_logprobs: 2 }
    const whole = await client.chat.completions.create(request)
    const content = whole.choices[0]!.logprobs!.content!
    expect(content.map(({ bytes }) => bytes)).toEqual([[0xc3], [0xa9], [0x21]])
    expect(content[2]).toEqual({
      token: '!',
      bytes: [0x21],
      logprob: -0.5,
      top_logprobs: [
        { token: '!', bytes: [0x21], logprob: -0.5 },
        { token: '"', bytes: [0x22], logprob: -1.5 },
      ],
    })
    const streamed = []
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed.push(...(chunk.choices[0]!.logprobs?.content ?? []))
    }
    expect(streamed).toEqual(content)
    const plain = await client.chat.completions.create({ ...user('x'), logprobs: true })
    expect(plain.choices[0]!.logprobs!.content![0]!.top_logprobs).toEqual([])
  })

  it('same seed same text, other seed other text, drawn seed told', async () => {
    const fake = fakeLanguageModel()
    const { client } = await start(fake)
    const ask = async (seed?: number) => {
      const answer = await client.chat.completions.create({
        ...user('x'),
        ...(seed === undefined ? {} : { seed }),
      })
      return { text: answer.choices[0]!.message.content, seed: (answer as unknown as Extras).swarm.seed }
    }
    expect(await ask(7)).toEqual(await ask(7))
    expect((await ask(7)).text).not.toBe((await ask(8)).text)
    const drawn = await ask()
    expect(await ask(Number(drawn.seed))).toEqual(drawn)
    await ask(-1)
    expect(fake.requests.at(-1).sampling!.seed).toBe(2n ** 64n - 1n)
  })

  it('takes sampling from the request, then from the model, then from OpenAI', async () => {
    const fake = fakeLanguageModel({ generationDefaults: { temperature: 0.7, topP: 0.95 } })
    const plain = fakeLanguageModel({ name: 'plain' })
    const { client } = await start([fake, plain])
    await client.chat.completions.create({ ...user('x'), temperature: 0, logit_bias: { '65': -100 } })
    expect(fake.requests.at(-1).sampling).toMatchObject({ temperature: 0, topP: 0.95 })
    expect(fake.requests.at(-1).sampling!.logitBias).toEqual(new Map([[65, -100]]))
    await client.chat.completions.create(user('x'))
    expect(fake.requests.at(-1).sampling).toMatchObject({ temperature: 0.7, topP: 0.95 })
    await client.chat.completions.create({ ...user('x'), model: 'plain' })
    expect(plain.requests.at(-1).sampling).toMatchObject({ temperature: 1, topP: 1, topK: 0, minP: 0 })
  })

  it('accepts text parts, the developer role and fields that change nothing', async () => {
    const fake = fakeLanguageModel()
    const { client } = await start(fake)
    await client.chat.completions.create({
      model: 'tests/fake',
      messages: [
        { role: 'developer', content: 'Be kind.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
      response_format: { type: 'text' },
      tools: [],
      n: 1,
      user: 'me',
      metadata: { a: 'b' },
      store: true,
      service_tier: 'auto',
    })
    const prompt = fake.tokenizer.decode(fake.requests[0]!.promptIds)
    expect(prompt).toBe('<system>\nBe kind.\n<user>\na\nb\n<assistant>\n')
  })
})

describe('text completions', () => {
  it('takes text or token ids and gives the old logprobs shape', async () => {
    const fake = fakeLanguageModel({ answer: () => 'aé!' })
    const { client } = await start(fake)
    const answer = await client.completions.create({ model: 'tests/fake', prompt: 'Once', logprobs: 1 })
    expect(fake.requests[0]!.promptIds).toEqual([256, 79, 110, 99, 101])
    expect(fake.requests[0]!.maxTokens).toBe(16)
    expect(answer.object).toBe('text_completion')
    expect(answer.choices[0]).toEqual({
      index: 0,
      text: 'aé!',
      finish_reason: 'stop',
      logprobs: {
        tokens: ['a', '\uFFFD', '\uFFFD', '!'],
        token_logprobs: [-0.5, -0.5, -0.5, -0.5],
        top_logprobs: [{ a: -0.5 }, { '\uFFFD': -0.5 }, { '\uFFFD': -0.5 }, { '!': -0.5 }],
        text_offset: [0, 1, 1, 2],
      },
    })
    await client.completions.create({ model: 'tests/fake', prompt: [1, 2, 3] })
    expect(fake.requests[1]!.promptIds).toEqual([1, 2, 3])
    await client.completions.create({ model: 'tests/fake', prompt: '' })
    expect(fake.requests[2]!.promptIds).toEqual([256])
  })

  it('streams text, then the finish reason, then usage', async () => {
    const { client } = await start(fakeLanguageModel({ answer: () => 'ab' }))
    const chunks = []
    const request = {
      model: 'tests/fake',
      prompt: 'x',
      stream: true as const,
      stream_options: { include_usage: true },
    }
    for await (const chunk of await client.completions.create(request)) chunks.push(chunk)
    expect(chunks.map((chunk) => chunk.choices[0]?.text)).toEqual(['a', 'b', '', undefined])
    expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason)).toEqual([null, null, 'stop', undefined])
    expect(chunks.at(-1).usage!.completion_tokens).toBe(3)
  })
})

describe('models, tokens and probes', () => {
  it('lists and shows models whose ids contain slashes', async () => {
    const { client } = await start([fakeLanguageModel(), fakeLanguageModel({ name: 'b' })])
    const list = await client.models.list()
    expect(list.data.map(({ id }) => id)).toEqual(['tests/fake@0123456789ab', 'b@0123456789ab'])
    expect(list.data[0]).toMatchObject({
      object: 'model',
      owned_by: 'chorale',
      meta: { context_length: 4096, blocks: 8, quantization: 'F16', ready: true, missing_blocks: [] },
    })
    for (const id of ['tests/fake', 'tests/fake@0123456789ab']) {
      expect((await client.models.retrieve(id)).id).toBe('tests/fake@0123456789ab')
    }
    await expect(client.models.retrieve('no/such')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    })
  })

  it('tokenizes and back', async () => {
    const { url } = await start(fakeLanguageModel())
    const post = async (path: string, body: unknown) =>
      (await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(body) })).json()
    const tokens = [256, 195, 169]
    expect(await post('/v1/tokenize', { model: 'tests/fake', content: 'é' })).toEqual({
      tokens,
      count: 3,
      max_model_len: 4096,
    })
    expect(await post('/v1/detokenize', { model: 'tests/fake', tokens })).toEqual({ content: 'é' })
    expect(await post('/v1/detokenize', { model: 'tests/fake', tokens: [9999] })).toMatchObject({
      error: { param: 'tokens' },
    })
  })

  it('health follows the servers, livez does not', async () => {
    const good = await start(fakeLanguageModel())
    expect(await (await fetch(`${good.url}/health`)).json()).toEqual({ status: 'ok' })
    const bad = await start(fakeLanguageModel({ missing: [{ start: 3, end: 6 }] }))
    const response = await fetch(`${bad.url}/health`)
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('2')
    expect(await response.json()).toMatchObject({
      error: { type: 'unavailable_error', code: 'no_chain', message: expect.stringContaining('3:6') },
    })
    expect((await fetch(`${bad.url}/livez`)).status).toBe(200)
  })

  it('metrics count requests, tokens and latencies', async () => {
    const { url, client } = await start(fakeLanguageModel({ failoverAt: 2 }))
    await client.chat.completions.create({ ...user('x'), temperature: 0 })
    const text = await (await fetch(`${url}/metrics`)).text()
    expect(text).toContain('swarm_generation_tokens_total 9')
    expect(text).toContain('swarm_request_success_total{finish_reason="stop"} 1')
    expect(text).toContain('swarm_time_to_first_token_seconds_count 1')
    expect(text).toContain('swarm_failovers_total 1')
    expect(text).toContain('swarm_requests_running 0')
    expect(text).toContain('swarm_http_requests_total{route="/v1/chat/completions",status="200"} 1')
  })

  it('state is what its port gives', async () => {
    const { url } = await start(fakeLanguageModel(), { swarmState: async () => ({ covered: true }) })
    expect(await (await fetch(`${url}/api/v1/state`)).json()).toEqual({ covered: true })
  })
})

describe('errors', () => {
  const raw = async (url: string, body: string, path = '/v1/chat/completions') => {
    const response = await fetch(`${url}${path}`, { method: 'POST', body })
    return { status: response.status, body: (await response.json()) as { error: Record<string, unknown> } }
  }

  it('names the parameter at fault', async () => {
    const { client } = await start(fakeLanguageModel())
    const cases: [object, string, RegExp][] = [
      [{ n: 2 }, 'n', /only 1/],
      [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools', /not supported/],
      [{ tool_choice: 'required' }, 'tool_choice', /not supported/],
      [{ response_format: { type: 'json_object' } }, 'response_format', /text/],
      [{ temperature: 3 }, 'temperature', /2/],
      [{ top_p: 0 }, 'top_p', /above 0/],
      [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', /at most 4/],
      [{ stop: '' }, 'stop', /not be empty/],
      [{ logit_bias: { fox: 1 } }, 'logit_bias', /"fox" is not a token id/],
      [{ logit_bias: { '258': 1 } }, 'logit_bias', /0 to 257/],
      [{ logit_bias: { '1': 200 } }, 'logit_bias.1', /100/],
      [{ top_logprobs: 3 }, 'top_logprobs', /logprobs/],
      [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs', /20/],
      [{ max_tokens: 0 }, 'max_tokens', /1/],
      [{ max_tokens: 3, max_completion_tokens: 4 }, 'max_tokens', /contradicts/],
      [{ seed: 1.5 }, 'seed', /int/],
      [{ messages: [] }, 'messages', /at least one/],
      [{ messages: undefined }, 'messages', /missing/],
      [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.role', /must be/],
      [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages.0.content', /text/],
      [{ model: undefined }, 'model', /missing/],
      [{ typical_p: 0.5 }, 'typical_p', /top_p/],
      [{ swarm: { quorum: 3 } }, 'swarm', /not|no option/],
    ]
    for (const [change, param, message] of cases) {
      const request = { ...user('x'), ...change } as unknown as OpenAI.ChatCompletionCreateParamsNonStreaming
      await expect(client.chat.completions.create(request), JSON.stringify(change)).rejects.toMatchObject({
        status: 400,
        type: 'invalid_request_error',
        param,
        message: expect.stringMatching(message),
      })
    }
    const echo = { model: 'tests/fake', prompt: 'x', echo: true }
    await expect(client.completions.create(echo)).rejects.toMatchObject({ status: 400, param: 'echo' })
  })

  it('unknown model, context, chat template, body', async () => {
    const fake = fakeLanguageModel({ contextLength: 40 })
    const raws = fakeLanguageModel({ name: 'raw', chatTemplate: false })
    const { client, url } = await start([fake, raws])
    const ask = (change: object) => client.chat.completions.create({ ...user('x'), ...change })
    await expect(ask({ model: 'nobody' })).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
    await expect(ask({ max_tokens: 100 })).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      param: 'max_tokens',
      message: expect.stringMatching(/at most \d+/),
    })
    const long = { messages: [{ role: 'user', content: 'x'.repeat(30) }] }
    await expect(ask(long)).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' })
    await expect(ask({ model: 'raw' })).rejects.toMatchObject({ status: 400, code: 'no_chat_template' })
    expect(await raw(url, '{')).toMatchObject({ status: 400, body: { error: { code: 'invalid_json' } } })
    expect((await raw(url, `{"a":${'['.repeat(100)}${']'.repeat(100)}}`)).body.error['message']).toMatch(
      /nested/,
    )
    expect((await raw(url, '[]')).status).toBe(400)
    const deep = JSON.stringify({ model: 'tests/fake', messages: Array.from({ length: 1025 }, () => ({})) })
    expect((await raw(url, deep)).body.error).toMatchObject({ param: 'messages' })
    expect((await raw(url, '', '/v1/nothing')).status).toBe(404)
  })

  it('413 past the byte limit, declared or not', async () => {
    const { url } = await start(fakeLanguageModel(), { limits: { bodyBytes: 1000 } })
    const big = JSON.stringify(user('x'.repeat(2000)))
    expect((await raw(url, big)).status).toBe(413)
    const chunked = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(big))
        controller.close()
      },
    })
    const init = { method: 'POST', body: chunked, duplex: 'half' }
    expect((await fetch(`${url}/v1/chat/completions`, init as RequestInit)).status).toBe(413)
  })

  it.each([
    ['capacity', 503, 'unavailable_error'],
    ['session_lost', 502, 'api_error'],
    ['timeout', 504, 'timeout_error'],
  ] as const)('%s before the first token keeps its status, streamed or not', async (code, status, type) => {
    const { url } = await start(
      fakeLanguageModel({ failure: new ChoraleError(code, 'blocks 3:6 are missing') }),
    )
    for (const stream of [false, true]) {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({ ...user('x'), stream }),
      })
      expect(response.status).toBe(status)
      expect(response.headers.get('retry-after')).toBe(status === 503 ? '2' : null)
      expect(await response.json()).toEqual({
        error: { message: 'blocks 3:6 are missing', type, param: null, code },
      })
    }
  })

  it('a bug is a 500 that tells the request id and nothing else', async () => {
    const { url } = await start(fakeLanguageModel({ failure: new TypeError('secret detail') }))
    const { status, body } = await raw(url, JSON.stringify(user('x')))
    expect(status).toBe(500)
    expect(body.error['message']).toMatch(/request id req_[0-9a-f]{24}$/)
  })

  it('an error in a stream ends it without [DONE]', async () => {
    const failure = new ChoraleError('session_lost', 'nobody left for blocks 3:6')
    const { url, client } = await start(fakeLanguageModel({ failure, failAt: 3 }))
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...user('x'), stream: true }),
    })
    expect(response.status).toBe(200)
    const text = await response.text()
    expect(text).not.toContain('[DONE]')
    const last = JSON.parse(text.trim().split('\n\n').at(-1).slice('data: '.length)) as unknown
    expect(last).toMatchObject({ error: { code: 'session_lost', message: failure.message } })
    const stream = await client.chat.completions.create({ ...user('x'), stream: true })
    await expect(
      (async () => {
        for await (const chunk of stream) void chunk
      })(),
    ).rejects.toThrow(/nobody left/)
  })
})

describe('access', () => {
  it('keys', async () => {
    const { url } = await start(fakeLanguageModel(), { apiKeys: ['first', 'second'] })
    const client = (apiKey: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
    await expect(client('wrong').models.list()).rejects.toMatchObject({
      status: 401,
      type: 'authentication_error',
      code: 'invalid_api_key',
    })
    expect((await fetch(`${url}/v1/models`)).status).toBe(401)
    expect((await fetch(`${url}/metrics`)).status).toBe(401)
    expect((await fetch(`${url}/health`)).status).toBe(200)
    expect((await client('second').models.list()).data.length).toBe(1)
  })

  it('refuses foreign hosts on loopback and foreign origins', async () => {
    const app = createApp({ models: () => [fakeLanguageModel()], version: 'x', loopbackOnly: true })
    const get = (headers: Record<string, string>) => app.request('/v1/models', { headers })
    for (const host of ['localhost:8787', '127.0.0.1:1', '[::1]:8787', 'a.localhost']) {
      expect((await get({ host })).status, host).toBe(200)
    }
    for (const host of ['evil.example', 'localhost.evil.example', '10.0.0.1:8787']) {
      expect((await get({ host })).status, host).toBe(403)
    }
    const host = 'localhost:8787'
    expect((await get({ host, origin: 'http://evil.example' })).status).toBe(403)
    expect((await get({ host, origin: 'null' })).status).toBe(403)
    expect((await get({ host, origin: 'http://localhost:8787' })).status).toBe(200)
  })

  it('lets listed origins in, with preflight and without a key for it', async () => {
    const origin = 'https://chat.example'
    const app = createApp({
      models: () => [fakeLanguageModel()],
      version: 'x',
      corsOrigins: [origin],
      apiKeys: ['k'],
    })
    const headers = { origin, 'access-control-request-method': 'POST' }
    const preflight = await app.request('/v1/chat/completions', { method: 'OPTIONS', headers })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe(origin)
  })
})

describe('load', () => {
  it('frees the session when the client leaves, streaming or not', async () => {
    const fake = fakeLanguageModel({ tokenMs: 20, answer: () => 'x'.repeat(2000) })
    const { client } = await start(fake)
    const stream = await client.chat.completions.create({ ...user('x'), stream: true })
    for await (const chunk of stream) if (chunk.choices[0]!.delta.content) break
    await until(() => fake.sessions() === 0, 'the stream left its session')
    const controller = new AbortController()
    const whole = client.chat.completions.create(user('x'), { signal: controller.signal })
    await until(() => fake.sessions() === 1, 'the second answer started')
    controller.abort()
    await expect(whole).rejects.toThrow()
    await until(() => fake.sessions() === 0, 'the whole answer left its session')
  })

  it('queues, then answers 429 with Retry-After; a place is taken by the next in line', async () => {
    const fake = fakeLanguageModel({ tokenMs: 20, answer: () => 'abc' })
    const { url } = await start(fake, { limits: { running: 1, waiting: 1 } })
    const ask = () => fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(user('x')) })
    const first = ask()
    await until(() => fake.sessions() === 1, 'the first runs')
    const others = await Promise.all([ask(), ask(), ask()])
    const statuses = others.map(({ status }) => status).sort((a, b) => a - b)
    expect(statuses).toEqual([200, 429, 429])
    expect(others.find(({ status }) => status === 429)!.headers.get('retry-after')).toBe('2')
    expect((await first).status).toBe(200)
    expect((await ask()).status).toBe(200)
  })

  it('a client that leaves the line gives up its place', async () => {
    const fake = fakeLanguageModel({ tokenMs: 10, answer: () => 'x'.repeat(500) })
    const { url } = await start(fake, { limits: { running: 1, waiting: 1 } })
    const ask = (signal: AbortSignal) =>
      fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(user('x')), signal })
    const metrics = async () => (await fetch(`${url}/metrics`)).text()
    const one = new AbortController()
    const two = new AbortController()
    const first = ask(one.signal).catch(() => undefined)
    await until(() => fake.sessions() === 1, 'the first runs')
    const second = ask(two.signal).catch(() => undefined)
    while (!(await metrics()).includes('swarm_requests_waiting 1')) continue
    two.abort()
    while (!(await metrics()).includes('swarm_requests_waiting 0')) continue
    one.abort()
    await until(() => fake.sessions() === 0, 'the first left')
    expect(fake.requests.length).toBe(1)
    await Promise.all([first, second])
  })

  it('keeps a silent stream alive with comments', async () => {
    const fake = fakeLanguageModel({ tokenMs: 60, answer: () => 'a' })
    const { url } = await start(fake, { limits: { keepAliveMs: 10 } })
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...user('x'), stream: true }),
    })
    const text = await response.text()
    expect(text.match(/^: ping$/gm)!.length).toBeGreaterThan(3)
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  })

  it('ends what takes longer than a request may', async () => {
    const fake = fakeLanguageModel({ tokenMs: 20, answer: () => 'x'.repeat(500) })
    const { client } = await start(fake, { limits: { requestMs: 50 } })
    await expect(client.chat.completions.create(user('x'))).rejects.toMatchObject({
      status: 504,
      type: 'timeout_error',
    })
    await until(() => fake.sessions() === 0, 'the session was freed')
  })

  it('the byte fake ends with its end-of-sequence token', async () => {
    const fake = fakeLanguageModel({ answer: () => 'a' })
    const ids: number[] = []
    for await (const event of fake.generate({ promptIds: [1] }))
      if (event.type === 'token') ids.push(event.token.id)
    expect(ids).toEqual([97, EOS])
  })
})
