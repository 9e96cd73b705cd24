import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readReceiptFile } from '../../src/protocol/receipt-file.ts'
import { parseReceipt } from '../../src/protocol/receipts.ts'
import { startOfflineSwarm, type OfflineSwarm } from '../../node/offline-swarm.ts'
import { runChorale, startChorale, type Running } from './run-chorale.ts'

const SPANS = [
  { start: 0, end: 3 },
  { start: 3, end: 6 },
  { start: 6, end: 8 },
]
const PROMPT = 'Tell me a story about a brave cat.'
const CHAT = ['chat', '--engine', 'reference', '--greedy', '--max-tokens', '24', '--once', PROMPT, '--json']

let swarm: OfflineSwarm
let gateway: Running
let url = ''
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-receipts-'))
  swarm = await startOfflineSwarm({ model: 'storyteller', spans: SPANS, engine: 'reference' })
  gateway = startChorale([
    'gateway',
    'storyteller',
    '--engine',
    'reference',
    '--port',
    '0',
    '--json',
    '--receipts',
    join(folder, 'gateway'),
    '--bootstrap',
    ...swarm.bootstrap,
  ])
  const deadline = Date.now() + 30_000
  while (!gateway.out().includes('\n')) {
    if (Date.now() > deadline || gateway.child.exitCode !== null) throw new Error(gateway.err())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  url = (JSON.parse(gateway.out()) as { url: string }).url
})

afterAll(async () => {
  // Whatever of them came up.
  for (const running of [gateway].filter(Boolean)) {
    running.child.kill('SIGTERM')
    await running.ended
  }
  for (const started of [swarm].filter(Boolean)) await started.stop()
  await rm(folder, { recursive: true, force: true })
})

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** What `chorale verify` says of files of receipts by all three servers. */
async function verified(files: readonly string[]): Promise<{ ok: boolean }> {
  const { code, out, err } = await runChorale(['verify', '--json', ...files])
  expect(code, err).toBe(0)
  const report = JSON.parse(out) as { ok: boolean; servers: { server: string; blockTokens: number }[] }
  expect(report.servers.map(({ server }) => server).toSorted()).toEqual(
    swarm.servers.map(({ peerId }) => peerId).toSorted(),
  )
  for (const { blockTokens } of report.servers) expect(blockTokens).toBeGreaterThan(8)
  return report
}

describe('a network of three server processes', () => {
  it('chat --bootstrap gives the ids of chat --local, and the route of its three servers', async () => {
    const [far, near] = await Promise.all([
      runChorale([...CHAT, '--bootstrap', ...swarm.bootstrap]),
      runChorale([...CHAT, '--local']),
    ])
    expect(far.code, far.err).toBe(0)
    const [there, here] = [far, near].map(({ out }) => JSON.parse(out) as Record<string, unknown>)
    expect(there!['ids']).toEqual(here!['ids'])
    expect(there!['logprobs']).toEqual(here!['logprobs'])
    expect(there!['route']).toEqual(
      swarm.servers.map(({ peerId, start, end }) => ({ peer: peerId, start, end, engine: 'reference' })),
    )
  })

  it('chat --receipts writes what verify proves, and never over another file', async () => {
    const file = join(folder, 'answer.receipts')
    const chat = [...CHAT, '--receipts', file, '--bootstrap', ...swarm.bootstrap]
    expect(await runChorale(chat)).toMatchObject({ code: 0 })
    expect(await verified([file])).toMatchObject({ ok: true, problems: [] })
    const again = await runChorale(chat)
    expect(again).toMatchObject({ code: 2, out: '' })
    expect(again.err).toContain(`${file} is there already`)
  })

  it('the gateway keeps receipts that verify proves: its servers computed the prompt and its tokens', async () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 })
    await client.chat.completions.create({
      model: 'storyteller',
      messages: [{ role: 'user', content: PROMPT }],
      max_tokens: 8,
    })
    const file = join(folder, 'gateway', 'receipts-000001.bin')
    await until(async () => {
      const { entries } = readReceiptFile(new Uint8Array(await readFile(file)))
      return new Set(entries.map((entry) => parseReceipt(entry).receipt.server)).size === SPANS.length
    }, 'receipts of all servers are written')
    await verified([file])
  })

  it('the gateway streams over it and tells who computed', async () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 })
    const stream = await client.chat.completions.create({
      model: 'storyteller',
      messages: [{ role: 'user', content: PROMPT }],
      max_tokens: 24,
      temperature: 0,
      stream: true,
    })
    let text = ''
    let route: { peer: string }[] = []
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      route = (chunk as unknown as { swarm?: { route: { peer: string }[] } }).swarm?.route ?? route
    }
    expect(text).toMatch(/^Once upon a time/)
    expect(route.map(({ peer }) => peer)).toEqual(swarm.servers.map(({ peerId }) => peerId))
    const state = (await (await fetch(`${url}/api/v1/state`)).json()) as {
      ready: boolean
      servers: unknown[]
    }
    expect(state.ready).toBe(true)
    expect(state.servers.length).toBe(3)
  })

  it('without a server for some blocks health is 503 and a request names the missing blocks', async () => {
    expect((await fetch(`${url}/health`)).status).toBe(200)
    swarm.servers[1]!.kill('SIGTERM')
    await until(
      async () => (await fetch(`${url}/health`)).status === 503,
      'health tells of the missing blocks',
    )
    const health = (await (await fetch(`${url}/health`)).json()) as { error: { message: string } }
    expect(health.error.message).toContain('3:6')
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'storyteller', prompt: 'Once', stream: true }),
    })
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({
      error: { code: 'no_chain', type: 'unavailable_error', message: expect.stringMatching(/3:6|3–5/) },
    })
  })
})

describe('bad networks', () => {
  it('a bootstrap peer that does not answer, and no bootstrap at all', async () => {
    const nobody = '/ip4/127.0.0.1/tcp/9'
    const chat = await runChorale(['chat', '--bootstrap', nobody, '--once', 'x', '--engine', 'reference'])
    expect(chat).toMatchObject({ code: 1, out: '' })
    expect(chat.err).toContain(nobody)
    const lonely = await runChorale(['gateway', '--port', '0'])
    expect(lonely).toMatchObject({ code: 2, out: '' })
    expect(lonely.err).toContain('--bootstrap ADDR')
  })
})
