import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readWeightsFlags } from '../../node/cli/serve/peer-files.ts'
import { until } from '../swarm/loopback.ts'
import { type Running, runChorale, startChorale } from './run-chorale.ts'

const LISTEN = ['--listen', '/ip4/127.0.0.1/tcp/0']
const HASH = 'ab'.repeat(32)
const SLOW_MS = 60_000

describe('flags of weights', () => {
  const read = (flags: Parameters<typeof readWeightsFlags>[0], models = ['m']) =>
    readWeightsFlags(flags, models)

  it('files unless peers are asked for; who takes from peers gives to them', () => {
    expect(read({})).toEqual({ wishes: [{ fromPeers: false, pinned: undefined }], shareBytes: undefined })
    expect(read({ weights: ['peers'], manifest: [HASH] })).toEqual({
      wishes: [{ fromPeers: true, pinned: HASH }],
      shareBytes: 8e6,
    })
    expect(read({ weights: ['peers'], share: '0' }).shareBytes).toBeUndefined()
    expect(read({ share: '2.5MB' }).shareBytes).toBe(2.5e6)
    const two = read({ weights: ['b=peers'], manifest: [`b=${HASH}`] }, ['a', 'b']).wishes
    expect(two).toEqual([
      { fromPeers: false, pinned: undefined },
      { fromPeers: true, pinned: HASH },
    ])
  })

  it.each([
    [{ weights: ['hub'] }, /--weights hub: give files .* or peers/],
    [{ manifest: ['xyz'] }, /--manifest xyz: give 64 hex digits/],
    [{ manifest: [HASH] }, /--manifest needs --weights peers/],
    [{ share: 'much' }, /--share much: give an amount/],
  ])('%j is refused', (flags, message) => expect(() => read(flags)).toThrow(message))
})

/** What `serve --json` says, of all events. */
interface Event {
  readonly event: string
  readonly modelId: string
  readonly addrs: readonly string[]
  readonly manifest: string
  readonly cachedBytes: number
  readonly totalBytes: number
  readonly peers: Readonly<Record<string, number>>
}

describe('serve --weights peers', () => {
  const running: Running[] = []
  const folders: string[] = []
  afterAll(async () => {
    for (const { child } of running) child.kill('SIGINT')
    await Promise.all(running.map(({ ended }) => ended))
    for (const folder of folders) await rm(folder, { recursive: true })
  })
  function start(args: readonly string[], env: Record<string, string> = {}): Running {
    const process = startChorale(['serve', ...args, '--json', ...LISTEN], env)
    running.push(process)
    return process
  }
  const events = ({ out }: Running) =>
    out()
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Event]))
  async function event(of: Running, name: string): Promise<Event> {
    const find = () => events(of).find((one) => one.event === name)
    await until(() => find() !== undefined || of.child.exitCode !== null, `${name} (${of.err()})`, SLOW_MS)
    return find()!
  }

  it(
    'a server without files joins, is interrupted, goes on where it stopped, and answers as the model does',
    async () => {
      const cache = await mkdtemp(join(tmpdir(), 'chorale-serve-peers-'))
      folders.push(cache)
      const seeder = start(['--blocks', '0:4', '--share', '600kB'])
      const { modelId, addrs } = await event(seeder, 'ready')
      const { manifest } = await event(seeder, 'sharing')
      const args = [modelId, '--weights', 'peers', '--blocks', '4:8', '--bootstrap', addrs[0]!]
      const cut = start(args, { XDG_CACHE_HOME: cache })
      const blobs = join(cache, 'chorale/weights/blobs')
      const keptPieces = async () => {
        const names = (await readdir(blobs).catch(() => [])).filter((name) => name.endsWith('.chunks'))
        const sizes = await Promise.all(names.map(async (name) => (await stat(join(blobs, name))).size))
        return sizes.filter((size) => size > 0).length
      }
      await until(
        async () => cut.child.exitCode !== null || (await keptPieces()) > 0,
        'a piece is kept',
        SLOW_MS,
      )
      cut.child.kill('SIGINT')
      await cut.ended
      expect(events(cut).map((one) => one.event)).toEqual(['manifest'])

      const again = start(args, { XDG_CACHE_HOME: cache })
      expect(await event(again, 'manifest')).toMatchObject({
        hash: manifest,
        why: 'used',
        votes: 1,
        against: 0,
      })
      const { cachedBytes, totalBytes, peers } = await event(again, 'fetched')
      expect(cachedBytes).toBeGreaterThan(0)
      const fetched = Object.values(peers).reduce((sum, bytes) => sum + bytes, 0)
      expect(fetched + cachedBytes).toBe(totalBytes)
      expect(await event(again, 'ready')).toMatchObject({ modelId, start: 4, end: 8 })

      const question = ['--once', 'Tell me a story.', '--greedy', '--max-tokens', '12', '--json']
      const [swarm, local] = await Promise.all([
        runChorale(['chat', '--bootstrap', addrs[0]!, ...question]),
        runChorale(['chat', '--local', ...question]),
      ])
      expect(swarm.code, swarm.err).toBe(0)
      const textOf = (out: string) => (JSON.parse(out) as { text: string }).text
      expect(textOf(swarm.out)).toBe(textOf(local.out))
    },
    3 * SLOW_MS,
  )

  it(
    'says what is missing where nobody has the model, and takes files where it knows some',
    async () => {
      const first = startChorale(['serve', 'storyteller', '--weights', 'peers', '--blocks', '0:1', ...LISTEN])
      running.push(first)
      const seeder = running[0]!
      const { addrs, modelId } = await event(seeder, 'ready')
      const wrong = ['--weights', 'peers', '--bootstrap', addrs[0]!]
      const other = startChorale(['serve', 'nobody-has-this', ...wrong, ...LISTEN])
      running.push(other)
      await until(() => /waiting: no server in the network has it/.test(other.out()), 'it waits', SLOW_MS)
      other.child.kill('SIGINT')
      await other.ended
      const pinned = startChorale(['serve', modelId, ...wrong, '--manifest', HASH, ...LISTEN])
      running.push(pinned)
      await until(() => pinned.out().includes(`waiting: no peer gives manifest ${HASH}`), 'it waits', SLOW_MS)
      pinned.child.kill('SIGINT')
      await pinned.ended
      await until(
        () => /serving blocks 0:1/.test(first.out()) || first.child.exitCode !== null,
        'it serves',
        SLOW_MS,
      )
      expect(first.out()).toMatch(/no server in the network has it.*taking the files that storyteller names/)
    },
    2 * SLOW_MS,
  )
})
