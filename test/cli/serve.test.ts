import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { blocksThatFit } from '../../node/cli/serve/block-budget.ts'
import { parseBlocks, parseCount, parseMemory } from '../../node/cli/serve/values.ts'
import { pictureOf, pictureText } from '../../node/cli/swarm/picture.ts'
import { createStyle } from '../../node/cli/terminal.ts'
import { isPrivateAddress } from '../../node/join-network.ts'
import { openModelArgument } from '../../node/open-model-argument.ts'
import { coverModel } from '../../src/routing/model-coverage.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { serverRecord } from '../contract/directory.ts'
import { type Running, runChorale, startChorale } from './run-chorale.ts'

const LISTEN = ['--listen', '/ip4/127.0.0.1/tcp/0']
const plain = createStyle(process.stdout, { NO_COLOR: '1' })

describe('flags of serve', () => {
  it.each([
    ['2GB', 2e9],
    ['512MiB', 512 * 1024 ** 2],
    ['1.5gb', 1.5e9],
    ['1000', 1000],
    ['8 kB', 8000],
  ])('--max-memory %s', (text, bytes) => expect(parseMemory(text)).toBe(bytes))

  it.each(['', '0', '-1GB', '2XB', 'GB', '1e9', '2GB extra', '99999999999999999999'])(
    '--max-memory %j is refused',
    (text) => {
      expect(() => parseMemory(text)).toThrow(/give an amount like 2GB/)
    },
  )

  it('--blocks', () => {
    expect(parseBlocks('0:4')).toEqual({ start: 0, end: 4 })
    expect(parseBlocks('auto')).toBeUndefined()
    for (const text of ['4:4', '5:4', ':4', '4', '-1:4', '0:4:8', '0:1e3', '']) {
      expect(() => parseBlocks(text), text).toThrow(/--blocks .*START:END/)
    }
  })

  it('counts', () => {
    expect(parseCount('threads', '3', 1)).toBe(3)
    for (const text of ['0', '1.5', 'x', ''])
      expect(() => parseCount('threads', text, 1)).toThrow(/--threads/)
  })
})

describe('blocksThatFit', () => {
  it('counts weights as float32 and the KV cache, and says what one block needs', async () => {
    const model = await openModelArgument()
    const all = blocksThatFit(model, 1024, 1e9)
    expect(all).toBe(8)
    const few = blocksThatFit(model, 1024, 259e6)
    expect(few).toBeGreaterThan(0)
    expect(few).toBeLessThan(8)
    expect(() => blocksThatFit(model, 1024, 100e6)).toThrow(
      /needs \d+ MB, allowed are 100 MB: raise --max-memory/,
    )
    await model.close()
  })
})

describe('pictureOf', () => {
  const model = { modelId: 'm@1', name: 'm', blockCount: 4, hiddenSize: 8 }
  const served = (records: readonly ServerRecord[]) => ({ model, records, ...coverModel(4, records) })
  const records = [
    serverRecord('bbbb', 1000, { start: 2, end: 4, throughput: 5 }),
    serverRecord('aaaa', 1000, { start: 0, end: 3, throughput: 50, engine: 'x\u001b[2J' }),
    serverRecord('cccc', 1000, { start: 3, end: 4, state: 'joining' }),
  ]

  it('counts online servers of each block and finds the weakest', () => {
    const picture = pictureOf(served(records), [served(records)], 3000)
    expect(picture).toMatchObject({
      model: 'm',
      blocks: 4,
      covered: true,
      coverage: [1, 1, 2, 1],
      weakestBlock: 3,
    })
    expect(picture.servers.map(({ peerId }) => peerId)).toEqual(['aaaa', 'bbbb', 'cccc'])
    expect(picture.servers[0]).toMatchObject({ start: 0, end: 3, state: 'online', ageMs: 2000 })
  })

  it('is not covered while a block has no online server, and says which', () => {
    const picture = pictureOf(served(records.slice(1)), [served(records.slice(1))], 3000)
    expect(picture).toMatchObject({ covered: false, coverage: [1, 1, 1, 0], weakestBlock: 3 })
    expect(pictureText(picture, plain)).toMatch(/nobody serves block 3/)
  })

  it('an empty network is a picture too', () => {
    const picture = pictureOf(undefined, [], 0)
    expect(picture).toMatchObject({ model: null, blocks: 0, covered: false, servers: [], weakestBlock: null })
    expect(pictureText(picture, plain)).toMatch(/nobody serves a model/)
  })

  it('text holds no control characters of other peers', () => {
    expect(pictureText(pictureOf(served(records), [served(records)], 0), plain)).not.toContain('\u001b')
  })
})

describe('isPrivateAddress', () => {
  it.each([
    ['/ip4/127.0.0.1/tcp/1', true],
    ['/ip4/172.31.0.1/tcp/1', true],
    ['/ip6/::1/tcp/1', true],
    ['/ip6/fd00::1/tcp/1', true],
    ['/dns4/localhost/tcp/1', true],
    ['/ip4/172.32.0.1/tcp/1', false],
    ['/ip4/192.0.2.7/tcp/1', false],
    ['/dns4/example.org/tcp/1', false],
  ])('%s: %s', (address, expected) => expect(isPrivateAddress(address)).toBe(expected))
})

describe('chorale bootstrap, serve and swarm', () => {
  const running: Running[] = []
  let bootstrap = ''

  async function start(args: string[]): Promise<{ process: Running; ready: Record<string, unknown> }> {
    const started = startChorale([...args, ...LISTEN, '--json'])
    running.push(started)
    const deadline = Date.now() + 30_000
    while (!started.out().includes('\n')) {
      if (Date.now() > deadline || started.child.exitCode !== null) throw new Error(started.err())
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return { process: started, ready: JSON.parse(started.out().split('\n')[0]!) as Record<string, unknown> }
  }

  beforeAll(async () => {
    const { ready } = await start(['bootstrap'])
    bootstrap = (ready['addrs'] as string[])[0]!
  })
  afterAll(async () => {
    for (const { child, ended } of running) {
      child.kill('SIGKILL')
      await ended
    }
  })

  it('serve says that it is ready; swarm shows what is true; a signal makes it leave', async () => {
    const serve = ['serve', '--engine', 'reference', '--kv-tokens', '512', '--bootstrap', bootstrap]
    const first = await start([...serve, '--blocks', '0:5'])
    expect(first.ready).toMatchObject({
      event: 'ready',
      start: 0,
      end: 5,
      engine: 'reference',
      model: 'storyteller',
    })
    const half = await runChorale(['swarm', '--bootstrap', bootstrap, '--json'])
    expect(JSON.parse(half.out)).toMatchObject({ model: 'storyteller', blocks: 8, covered: false })
    // Room for a few blocks only: it must choose those nobody serves.
    const second = await start([...serve, '--blocks', 'auto', '--max-memory', '258MB'])
    expect(second.ready).toMatchObject({ end: 8 })
    expect(second.ready['start']).toBeGreaterThan(2)
    expect(second.ready['start']).toBeLessThanOrEqual(5)
    const whole = await runChorale(['swarm', 'storyteller', '--bootstrap', bootstrap, '--json'])
    expect(whole.code).toBe(0)
    const picture = JSON.parse(whole.out) as { servers: object[] }
    expect(picture).toMatchObject({ model: 'storyteller', blocks: 8, covered: true })
    expect(picture.servers).toMatchObject([
      {
        peerId: first.ready['peerId'],
        start: 0,
        end: 5,
        engine: 'reference',
        state: 'online',
        addrs: first.ready['addrs'],
      },
      { peerId: second.ready['peerId'], state: 'online' },
    ])
    const table = await runChorale(['swarm', '--bootstrap', bootstrap])
    expect(table.out).toMatch(/storyteller: 8 blocks, 2 servers, every block is served/)
    first.process.child.kill('SIGTERM')
    expect((await first.process.ended).code).toBe(0)
    expect(first.process.out()).toMatch(/"event":"left"/)
    const after = await runChorale(['swarm', '--bootstrap', bootstrap, '--json'])
    expect((JSON.parse(after.out) as { servers: object[] }).servers).toHaveLength(1)
  })

  it('bad input ends with a clear error', async () => {
    const cases: [string[], number, RegExp][] = [
      [['serve', '--blocks', '3:1'], 2, /--blocks 3:1: give START:END/],
      [['serve', '--blocks', '0:99', '--engine', 'reference'], 1, /0:99 is not inside storyteller/],
      [['serve', '--listen', 'localhost:4001', '--engine', 'reference'], 2, /is no multiaddr/],
      [['swarm', '--bootstrap', '/ip4/127.0.0.1/tcp/1'], 1, /no bootstrap peer is reachable/],
      [['swarm', 'unheard-of', '--bootstrap', bootstrap], 1, /nobody serves unheard-of in this network/],
    ]
    const ran = await Promise.all(cases.map(([args]) => runChorale(args)))
    for (const [i, [args, code, message]] of cases.entries()) {
      expect(ran[i]!.err, args.join(' ')).toMatch(message)
      expect(ran[i]!.code, args.join(' ')).toBe(code)
    }
  })
})
