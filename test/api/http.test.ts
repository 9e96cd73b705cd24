import { createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { isLoopbackHost, serveHttp, type HttpServer } from '../../node/http.ts'
import { createApp } from '../../src/api/app.ts'
import { fakeLanguageModel, type FakeLanguageModel } from './fake-language-model.ts'

const open: HttpServer[] = []
const blockers: Server[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close(0)))
  for (const server of blockers.splice(0)) server.close()
})

async function start(model: FakeLanguageModel): Promise<HttpServer> {
  const app = createApp({ models: () => [model], version: 'x', loopbackOnly: true })
  const server = await serveHttp(app, { port: 0 })
  open.push(server)
  return server
}

function ask(url: string): Promise<Response> {
  const body = JSON.stringify({
    model: 'tests/fake',
    messages: [{ role: 'user', content: 'x' }],
    stream: true,
  })
  return fetch(`${url}/v1/chat/completions`, { method: 'POST', body })
}

describe('serveHttp', () => {
  it('tells its URL; close lets answers end and takes no new ones', async () => {
    const server = await start(fakeLanguageModel({ answer: () => 'x'.repeat(20), tokenMs: 5 }))
    expect(server.url).toBe(`http://127.0.0.1:${server.port}`)
    const answer = await ask(server.url)
    const closed = server.close(10_000)
    expect(await answer.text()).toMatch(/\[DONE\]\n\n$/)
    await closed
    await expect(fetch(`${server.url}/livez`)).rejects.toThrow()
  })

  it('cuts answers that outlast the grace and frees their sessions', async () => {
    const model = fakeLanguageModel({ answer: () => 'x'.repeat(5000), tokenMs: 5 })
    const server = await start(model)
    const answer = await ask(server.url)
    const text = answer.text()
    const cut = expect(text).rejects.toThrow()
    await server.close(20)
    await cut
    const deadline = Date.now() + 5000
    while (model.sessions() > 0 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 5))
    expect(model.sessions()).toBe(0)
  })

  it('a port in use is an error that says what to do', async () => {
    const blocker = createServer()
    blockers.push(blocker)
    const port = await new Promise<number>((resolve) => {
      blocker.listen(0, '127.0.0.1', () => resolve((blocker.address() as { port: number }).port))
    })
    const app = createApp({ models: () => [], version: 'x' })
    await expect(serveHttp(app, { port })).rejects.toMatchObject({
      code: 'bad_config',
      field: 'port',
      message: expect.stringMatching(new RegExp(`port ${port} on 127.0.0.1 is in use.*--port 0`)),
    })
    await expect(serveHttp(app, { port: 0, host: '192.0.2.1' })).rejects.toMatchObject({
      message: expect.stringMatching(/not an address of this machine/),
    })
  })
})

describe('isLoopbackHost', () => {
  it.each(['127.0.0.1', '127.1.2.3', 'localhost', '::1'])('%s is', (host) => {
    expect(isLoopbackHost(host)).toBe(true)
  })
  it.each(['0.0.0.0', '::', '10.0.0.1', '127.evil.example', 'localhost.example'])('%s is not', (host) => {
    expect(isLoopbackHost(host)).toBe(false)
  })
})
