import { describe, expect, it } from 'vitest'
import { createApp } from '../../src/api/app.ts'
import { fakeLanguageModel } from './fake-language-model.ts'

/** Events of a stream, read one by one. */
async function* eventsOf(response: Response): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const bytes of response.body!) {
    text += decoder.decode(bytes, { stream: true })
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield text.slice(0, end)
      text = text.slice(end + 2)
    }
  }
}

describe('GET /api/v1/events', () => {
  it('tells the state at once and again when it changes; nobody is asked while nobody listens', async () => {
    let servers = 1
    let asked = 0
    const app = createApp({
      models: () => [fakeLanguageModel()],
      version: '0',
      swarmState: async () => {
        asked++
        return { model: 'm', servers }
      },
    })
    const open = async () => await app.request('/api/v1/events')
    const first = await open()
    expect(first.headers.get('content-type')).toMatch('text/event-stream')
    const events = eventsOf(first)
    expect((await events.next()).value).toBe('event: state\ndata: {"model":"m","servers":1}')
    const second = eventsOf(await open())
    expect((await second.next()).value).toBe('event: state\ndata: {"model":"m","servers":1}')
    servers = 2
    expect((await events.next()).value).toBe('event: state\ndata: {"model":"m","servers":2}')
    expect((await second.next()).value).toBe('event: state\ndata: {"model":"m","servers":2}')
    await events.return()
    await second.return()
    await new Promise((resolve) => setTimeout(resolve, 1_100))
    const before = asked
    await new Promise((resolve) => setTimeout(resolve, 1_200))
    expect(asked).toBe(before)
    servers = 3
    expect((await eventsOf(await open()).next()).value).toBe('event: state\ndata: {"model":"m","servers":3}')
  })

  it('takes so many listeners and no more', async () => {
    const app = createApp({ models: () => [], version: '0', swarmState: async () => ({}) })
    const responses = await Promise.all(
      Array.from({ length: 130 }, async () => await app.request('/api/v1/events')),
    )
    expect(responses.map(({ status }) => status).filter((status) => status === 503)).toHaveLength(2)
    for (const { body } of responses) await body?.cancel()
  })
})
