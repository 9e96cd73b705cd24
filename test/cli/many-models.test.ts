import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type Running, runChorale, startChorale } from './run-chorale.ts'

interface Summary {
  readonly name: string
  readonly complete: boolean
}

describe('two models in one network', () => {
  const running: Running[] = []
  let folder = ''
  let rounded = ''
  let bootstrap = ''

  /** Starts a process and waits for its first line. */
  async function start(args: string[]): Promise<{ process: Running; ready: Record<string, unknown> }> {
    const started = startChorale([...args, '--json'])
    running.push(started)
    const deadline = Date.now() + 60_000
    while (!started.out().includes('\n')) {
      if (Date.now() > deadline || started.child.exitCode !== null) throw new Error(started.err())
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return { process: started, ready: JSON.parse(started.out().split('\n')[0]!) as Record<string, unknown> }
  }
  const serve = (...args: string[]) =>
    start(['serve', ...args, '--engine', 'wasm', '--threads', '1', '--listen', '/ip4/127.0.0.1/tcp/0'])
  const swarm = async (...args: string[]) =>
    JSON.parse((await runChorale(['swarm', ...args, '--bootstrap', bootstrap, '--json'])).out) as {
      readonly model: string
      readonly servers: readonly { readonly peerId: string; readonly start: number; readonly end: number }[]
      readonly models: readonly Summary[]
    }
  const ask = ['--once', 'Tell me a story about a fox.', '--greedy', '--max-tokens', '6', '--json']

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chorale-models-'))
    // The bundled model in another precision is another model, with a key of its own.
    rounded = join(folder, 'tale-q8')
    const made = await runChorale(['models', 'quantize', 'storyteller', '--bits', '8', '--out', rounded])
    expect(made.code, made.err).toBe(0)
  }, 60_000)
  afterAll(async () => {
    for (const { child, ended } of running) {
      child.kill('SIGKILL')
      await ended
    }
    await rm(folder, { recursive: true, force: true })
  })

  it('one process serves both; what is short of blocks is listed, refused, waited for, and then answers', async () => {
    const blocks = ['--blocks', 'storyteller=0:8', '--blocks', 'tale-q8=0:3', '--kv-tokens', '2048']
    const first = await serve('storyteller', rounded, ...blocks)
    expect(first.ready['spans']).toMatchObject([
      { model: 'storyteller', start: 0, end: 8, kvTokens: 1024 },
      { model: 'tale-q8', start: 0, end: 3, kvTokens: 1024 },
    ])
    bootstrap = (first.ready['addrs'] as string[])[0]!

    const { model, models } = await swarm()
    expect(model).toBe('storyteller')
    expect(models).toMatchObject([
      { name: 'storyteller', complete: true, missing: [], servers: 1, precision: 'F16' },
      {
        name: 'tale-q8',
        complete: false,
        missing: [{ start: 3, end: 8 }],
        weakest: { block: 3, servers: 0 },
        precision: 'Q8_0',
      },
    ])
    // One peer, listed for both.
    const { peerId } = first.ready
    expect((await swarm('tale-q8')).servers).toMatchObject([{ peerId, start: 0, end: 3 }])
    expect((await swarm('storyteller')).servers).toMatchObject([{ peerId, start: 0, end: 8 }])

    const chat = ['chat', rounded, '--bootstrap', bootstrap, ...ask]
    const refused = await runChorale(chat)
    expect(refused.code).toBe(3)
    expect(refused.err).toMatch(
      /no server holds blocks 3:8 of tale-q8; .*--blocks 3:8 --bootstrap .*complete in this network: storyteller/,
    )

    const waiting = startChorale([...chat, '--wait', '90'])
    running.push(waiting)
    const deadline = Date.now() + 30_000
    while (!waiting.err().includes('no server holds blocks 3:8 of tale-q8')) {
      if (Date.now() > deadline) throw new Error(`it does not wait: ${waiting.err()}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    // Room for the models' few blocks: most go to the one that lacks some.
    const room = ['--max-memory', '264MB', '--kv-tokens', '1024', '--bootstrap', bootstrap]
    const second = await serve('storyteller', rounded, ...room)
    const spans = second.ready['spans'] as readonly { start: number; end: number }[]
    expect(spans[1]).toMatchObject({ start: 3, end: 8 })
    expect(spans[0]!.end - spans[0]!.start).toBeLessThan(5)

    const answered = await waiting.ended
    expect(answered.code, answered.err).toBe(0)
    const local = await runChorale(['chat', rounded, '--local', ...ask])
    const idsOf = (out: string) => (JSON.parse(out) as { ids: number[] }).ids
    expect(idsOf(answered.out)).toEqual(idsOf(local.out))
    expect((await swarm('tale-q8')).models.map(({ complete }) => complete)).toEqual([true, true])

    // It leaves both models at once.
    second.process.child.kill('SIGTERM')
    expect((await second.process.ended).code).toBe(0)
    for (const model of ['storyteller', 'tale-q8']) {
      // Its farewell may be under way still.
      await vi.waitFor(async () => expect((await swarm(model)).servers).toHaveLength(1), { timeout: 60_000 })
    }
  }, 240_000)

  it('bad input says what to write', async () => {
    const cases: [string[], RegExp][] = [
      [
        ['serve', 'storyteller', rounded, '--blocks', '0:4'],
        /of which model\? Write --blocks storyteller=START:END/,
      ],
      [['serve', 'storyteller', '--blocks', 'other=0:4'], /other is not served here; there is storyteller/],
      [['serve', 'storyteller', 'models/storyteller', '--blocks', 'auto'], /are the same model storyteller@/],
      [
        ['chat', 'storyteller', '--wait', 'long', '--bootstrap', bootstrap],
        /--wait long: give a whole number/,
      ],
    ]
    const ran = await Promise.all(cases.map(([args]) => runChorale(args)))
    for (const [i, [args, message]] of cases.entries()) {
      expect(ran[i]!.err, args.join(' ')).toMatch(message)
      expect(ran[i]!.code, args.join(' ')).toBe(2)
    }
  }, 60_000)
})
