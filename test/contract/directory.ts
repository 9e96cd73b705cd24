import { afterEach, describe, expect, it } from 'vitest'
import type { ModelRecord, ServerRecord } from '../../src/routing/snapshot.ts'
import type { Directory } from '../../src/session/directory.ts'

/** Two peers' views of one network. */
export interface DirectoryNetwork {
  readonly peers: readonly [DirectoryPeer, DirectoryPeer]
  /** Moves the clock of both. */
  advance(ms: number): void
  close(): Promise<void>
}

export interface DirectoryPeer {
  readonly peerId: string
  readonly directory: Directory
}

export const MODEL: ModelRecord = { modelId: 'm@1', name: 'm', blockCount: 8, hiddenSize: 64 }

/** A record that is valid at `now`. */
export function serverRecord(peerId: string, now: number, changes: Partial<ServerRecord> = {}): ServerRecord {
  return {
    peerId,
    addrs: [`/ip4/127.0.0.1/tcp/4001/p2p/${peerId}`],
    modelId: MODEL.modelId,
    start: 0,
    end: 4,
    state: 'online',
    throughput: 12.5,
    freeKvTokens: 4096,
    sessions: 0,
    engine: 'reference',
    precision: 'f32',
    version: 'chorale/test',
    issuedAt: now,
    expiresAt: now + 45_000,
    ...changes,
  }
}

/** What every `Directory` must do. Views may lag: expectations poll. */
export function directoryContract(
  name: string,
  open: (now: () => number) => Promise<DirectoryNetwork>,
): void {
  describe(`Directory contract: ${name}`, () => {
    let network: DirectoryNetwork | undefined
    let time = Date.now()
    const start = async (): Promise<DirectoryNetwork> => {
      time = Date.now()
      network = await open(() => time)
      return network
    }
    afterEach(async () => {
      await network?.close()
      network = undefined
    })

    it('shows one peer what another announced, unchanged', async () => {
      const { peers } = await start()
      const record = serverRecord(peers[0].peerId, time)
      await peers[0].directory.announce(record, MODEL)
      await expect.poll(() => peers[1].directory.servers(MODEL.modelId)).toEqual([record])
      await expect.poll(() => peers[0].directory.servers(MODEL.modelId)).toEqual([record])
      await expect.poll(() => peers[1].directory.models()).toEqual([MODEL])
    })

    it('keeps several servers of a model and the models apart', async () => {
      const { peers } = await start()
      const [a, b] = peers
      const other = { ...MODEL, modelId: 'n@1', name: 'n' }
      await a.directory.announce(serverRecord(a.peerId, time), MODEL)
      await b.directory.announce(serverRecord(b.peerId, time, { start: 4, end: 8 }), MODEL)
      await b.directory.announce(serverRecord(b.peerId, time, { modelId: 'n@1' }), other)
      const ids = async (of: string) => (await a.directory.servers(of)).map(({ peerId }) => peerId).sort()
      await expect.poll(() => ids(MODEL.modelId)).toEqual([a.peerId, b.peerId].sort())
      await expect.poll(() => ids('n@1')).toEqual([b.peerId])
      expect(await ids('unknown@1')).toEqual([])
      await expect
        .poll(async () => (await a.directory.models()).map(({ modelId }) => modelId).sort())
        .toEqual([MODEL.modelId, 'n@1'])
    })

    it('replaces a record by a newer one and ignores an older one', async () => {
      const { peers } = await start()
      const [a, b] = peers
      const states = async () => (await b.directory.servers(MODEL.modelId)).map(({ state }) => state)
      await a.directory.announce(serverRecord(a.peerId, time, { state: 'joining' }), MODEL)
      await expect.poll(states).toEqual(['joining'])
      await a.directory.announce(
        serverRecord(a.peerId, time, { issuedAt: time + 2, state: 'draining' }),
        MODEL,
      )
      await expect.poll(states).toEqual(['draining'])
      await a.directory
        .announce(serverRecord(a.peerId, time, { issuedAt: time + 1 }), MODEL)
        .catch(() => undefined)
      expect(await states()).toEqual(['draining'])
    })

    it('forgets a record when it is withdrawn', async () => {
      const { peers } = await start()
      const [a, b] = peers
      await a.directory.announce(serverRecord(a.peerId, time), MODEL)
      await expect.poll(() => b.directory.servers(MODEL.modelId)).toHaveLength(1)
      await a.directory.withdraw(MODEL.modelId)
      await expect.poll(() => b.directory.servers(MODEL.modelId)).toHaveLength(0)
      await expect.poll(() => a.directory.servers(MODEL.modelId)).toHaveLength(0)
      await a.directory.withdraw('never-announced@1')
    })

    it('forgets a record when it expires', async () => {
      const { peers, advance } = await start()
      const [a, b] = peers
      await a.directory.announce(serverRecord(a.peerId, time), MODEL)
      await expect.poll(() => b.directory.servers(MODEL.modelId)).toHaveLength(1)
      time += 46_000
      advance(46_000)
      expect(await b.directory.servers(MODEL.modelId)).toEqual([])
      expect(await b.directory.models()).toEqual([])
    })
  })
}
