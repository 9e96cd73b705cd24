import { describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import {
  type BlobShelf,
  hashBlob,
  type Held,
  PIECE_BYTES,
  pieceCount,
  pieceLength,
} from '../../src/model/blob.ts'
import { encodeHeld, parseBlobQuestion } from '../../src/protocol/blob-messages.ts'
import { type BlobNeed, fetchBlobs, type FetchBlobsOptions } from '../../src/swarm/blob-fetch.ts'
import type { AskBlob } from '../../src/swarm/blob-source.ts'
import { ASKED, nextPiece, OPEN, wantPieces } from '../../src/swarm/blob-plan.ts'
import { seededRandom } from '../protocol/random.ts'

/** A blob of numbered bytes. */
async function blobOf(pieces: number, seed: number) {
  const bytes = new Uint8Array((pieces - 1) * PIECE_BYTES + 1_000).map(
    (_, i) => (i * 31 + (i >> 8) * seed) & 255,
  )
  const id = await hashBlob(bytes.length, async (at, length) => bytes.subarray(at, at + length))
  return { ...id, bytes }
}
type Blob = Awaited<ReturnType<typeof blobOf>>

const needOf = ({ root, byteLength }: Blob): BlobNeed => ({
  root,
  byteLength,
  pieces: Array.from({ length: pieceCount(byteLength) }, (_, i) => i),
})

/** A shelf with all of `blobs`, or the pieces that `has` says. */
export function memoryShelf(blobs: readonly Blob[], has?: (index: number) => boolean): BlobShelf {
  const find = (root: string) => blobs.find((blob) => blob.root === root)
  return {
    manifest: async () => undefined,
    have: async (root): Promise<Held | undefined> => {
      const blob = find(root)
      if (blob === undefined || has === undefined) return blob && { byteLength: blob.byteLength }
      const pieces = new Uint8Array(Math.ceil(pieceCount(blob.byteLength) / 8))
      for (let i = 0; i < pieceCount(blob.byteLength); i++) if (has(i)) pieces[i >> 3]! |= 1 << (i & 7)
      return { byteLength: blob.byteLength, pieces }
    },
    list: async (root) => find(root)?.list,
    piece: async (root, index) => {
      const blob = find(root)
      if (blob === undefined || (has !== undefined && !has(index))) return undefined
      const at = index * PIECE_BYTES
      return blob.bytes.slice(at, at + pieceLength(blob.byteLength, index))
    },
  }
}

interface FakePeer {
  readonly shelf: BlobShelf
  /** May answer a piece by itself, or throw. */
  readonly piece?: (index: number, signal: AbortSignal) => Promise<Uint8Array | undefined | 'as it is'>
}

/** Peers by name that answer as `serveBlobs` does. */
function fakeSwarm(peers: Readonly<Record<string, FakePeer>>) {
  const asked: Record<string, number> = {}
  let atOnce = 0
  const ask: AskBlob = async (source, bytes, { signal }) => {
    const peer = peers[source.peerId]
    if (peer === undefined) throw new ChoraleError('unreachable', 'nobody there')
    const question = parseBlobQuestion(bytes)
    await new Promise((resolve) => setTimeout(resolve, 1))
    signal.throwIfAborted()
    if (question.ask === 'have') {
      return encodeHeld(await Promise.all(question.roots.map((root) => peer.shelf.have(root))))
    }
    if (question.ask === 'list') return await peer.shelf.list(question.root)
    if (question.ask === 'manifest') return undefined
    asked[source.peerId] = (asked[source.peerId] ?? 0) + 1
    atOnce++
    try {
      const own = (await peer.piece?.(question.index, signal)) ?? (peer.piece ? undefined : 'as it is')
      return own === 'as it is' ? await peer.shelf.piece(question.root, question.index) : own
    } finally {
      atOnce--
    }
  }
  return { ask, asked, atOnce: () => atOnce }
}

async function fetchFrom(
  peers: Readonly<Record<string, FakePeer>>,
  blobs: readonly Blob[],
  options: Partial<FetchBlobsOptions> = {},
) {
  const swarm = fakeSwarm(peers)
  const got = new Map(blobs.map((blob) => [blob.root, new Uint8Array(blob.byteLength)]))
  const counts = { pieces: 0, lists: 0 }
  const random = seededRandom(3)
  const report = await fetchBlobs(blobs.map(needOf), {
    ask: swarm.ask,
    sources: async () => Object.keys(peers).map((peerId) => ({ peerId, addrs: [] })),
    keepList: async () => void counts.lists++,
    keepPiece: async (root, index, bytes) => {
      // A disk takes its time.
      await new Promise((resolve) => setTimeout(resolve, index % 3))
      counts.pieces++
      got.get(root)!.set(bytes, index * PIECE_BYTES)
    },
    random: () => random(1_000) / 1_000,
    patienceMs: 1_000,
    ...options,
  })
  const whole = blobs.every((blob) => Buffer.compare(got.get(blob.root)!, blob.bytes) === 0)
  return { report, whole, counts, asked: swarm.asked }
}

const two = await Promise.all([blobOf(9, 3), blobOf(12, 5)])
const shelf = memoryShelf(two)

describe('fetchBlobs', () => {
  it('takes pieces of several peers, each piece once', async () => {
    const { report, whole, counts } = await fetchFrom({ a: { shelf }, b: { shelf }, c: { shelf } }, two)
    expect(whole).toBe(true)
    expect(report.missing).toEqual([])
    expect(counts).toEqual({ pieces: 21, lists: 2 })
    expect(report.from.size).toBe(3)
    const sum = [...report.from.values()].reduce((total, bytes) => total + bytes, 0)
    expect(sum).toBe(two.reduce((total, { byteLength }) => total + byteLength, 0))
  })

  it('of a liar nothing is used, it is named and never asked again', async () => {
    const liars = new Set<string>()
    const why: string[] = []
    const { whole, report, asked } = await fetchFrom(
      {
        liar: {
          shelf,
          piece: async (index) => new Uint8Array(index === 8 || index === 11 ? 1_000 : PIECE_BYTES),
        },
        honest: { shelf },
      },
      two,
      { liars, onLiar: (_, reason) => why.push(reason) },
    )
    expect(whole).toBe(true)
    expect([...liars]).toEqual(['liar'])
    expect(why).toHaveLength(1)
    expect(report.from.has('liar')).toBe(false)
    expect(asked['liar']).toBeLessThanOrEqual(6)
    expect(report.left.get('liar')).toMatch(/other bytes/)
    const again = await fetchFrom({ liar: { shelf }, honest: { shelf } }, two, { liars })
    expect(again.asked['liar']).toBeUndefined()
  })

  it('a wrong list is a lie too, a shorter piece as well', async () => {
    const wrongList: BlobShelf = {
      ...shelf,
      list: async (root) => (await shelf.list(root))?.map((byte) => byte ^ 1),
    }
    const short: FakePeer = { shelf, piece: async () => new Uint8Array(5) }
    const liars = new Set<string>()
    const { whole } = await fetchFrom({ a: { shelf: wrongList }, b: short, c: { shelf } }, two, { liars })
    expect(whole).toBe(true)
    expect([...liars].sort()).toEqual(['a', 'b'])
  })

  it('a peer that dies midway costs its pieces’ time only', async () => {
    let left = 5
    const dying: FakePeer = {
      shelf,
      piece: async () => {
        if (left-- > 0) return 'as it is'
        throw new ChoraleError('unreachable', 'connection lost')
      },
    }
    const { whole, report } = await fetchFrom({ dying, other: { shelf } }, two, { patienceMs: 5_000 })
    expect(whole).toBe(true)
    expect(report.missing).toEqual([])
    expect(report.from.get('other')).toBeGreaterThan(0)
  })

  it('refusals are no failures: the peer is asked again when it said', async () => {
    let refusals = 0
    const busy: FakePeer = {
      shelf,
      piece: async () => {
        if (refusals++ % 2 === 0) throw new ChoraleError('capacity', 'later', { retryAfterMs: 5 })
        return 'as it is'
      },
    }
    const { whole, report } = await fetchFrom({ busy }, two, { patienceMs: 5_000 })
    expect(whole).toBe(true)
    expect(report.left.size).toBe(0)
    expect(refusals).toBeGreaterThan(21)
  })

  it('what a silent peer was asked for another one brings', async () => {
    const silent: FakePeer = {
      shelf,
      piece: async (_, signal) =>
        await new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new ChoraleError('cancelled', 'cancelled')))
        }),
    }
    const started = performance.now()
    const { whole } = await fetchFrom({ silent, other: { shelf } }, two, { patienceMs: 8_000 })
    expect(whole).toBe(true)
    expect(performance.now() - started).toBeLessThan(6_000)
  })

  it('partial holders are asked for what they have; what nobody has is in the report', async () => {
    const even = memoryShelf(two, (index) => index % 2 === 0)
    const few = memoryShelf(two, (index) => index % 2 === 1 && index !== 7)
    const { report, counts } = await fetchFrom({ even: { shelf: even }, few: { shelf: few } }, two)
    expect(report.missing.map(({ pieces }) => pieces)).toEqual([[7], [7]])
    expect(counts.pieces).toBe(19)
    expect(report.missing[0]?.list).toEqual(two[0].list)
    // And a claim that is not true ends in the report as well.
    const claims: FakePeer = { shelf, piece: async (index) => (index === 3 ? undefined : 'as it is') }
    expect((await fetchFrom({ claims }, two)).report.missing.map(({ pieces }) => pieces)).toEqual([[3], [3]])
  })

  it('goes on where it stopped, and asks for nothing that is there', async () => {
    const [blob] = two
    const need = { ...needOf(blob), pieces: [2, 5], list: blob.list }
    const swarm = fakeSwarm({ a: { shelf } })
    const kept: number[] = []
    await fetchBlobs([need], {
      ask: swarm.ask,
      sources: async () => [{ peerId: 'a', addrs: [] }],
      keepList: () => Promise.reject(new Error('the list is known')),
      keepPiece: async (_, index) => void kept.push(index),
    })
    expect(kept.toSorted((a, b) => a - b)).toEqual([2, 5])
    expect(swarm.asked).toEqual({ a: 2 })
  })

  it('finds peers that come later, leaves those that are not there, and keeps to its number of peers', async () => {
    let looks = 0
    const { whole, report } = await fetchFrom({ late: { shelf } }, two, {
      sources: async () => [
        { peerId: 'nobody', addrs: [] },
        ...(looks++ > 0 ? [{ peerId: 'late', addrs: [] }] : []),
      ],
      maxSources: 1,
      patienceMs: 10_000,
    })
    expect(whole).toBe(true)
    expect(report.left.get('nobody')).toMatch(/nobody there/)
  })

  it('gives up early with nobody to ask, and not while there is somebody', async () => {
    const started = performance.now()
    const options = { patienceMs: 20_000, aloneMs: 200 }
    expect((await fetchFrom({}, two, options)).report.missing).toHaveLength(2)
    expect(performance.now() - started).toBeLessThan(5_000)
    const slow: FakePeer = {
      shelf,
      piece: async () => {
        await new Promise((resolve) => setTimeout(resolve, 250))
        return 'as it is'
      },
    }
    expect((await fetchFrom({ slow }, two.slice(0, 1), options)).whole).toBe(true)
  })

  it('ends when told to, and with the disk', async () => {
    const abort = new AbortController()
    const slow: FakePeer = {
      shelf,
      piece: async () => {
        setTimeout(() => abort.abort(), 1)
        await new Promise((resolve) => setTimeout(resolve, 20))
        return 'as it is'
      },
    }
    await expect(fetchFrom({ slow }, two, { signal: abort.signal })).rejects.toMatchObject({
      code: 'cancelled',
    })
    const full = new ChoraleError('capacity', 'no room on the disk')
    await expect(fetchFrom({ a: { shelf } }, two, { keepPiece: () => Promise.reject(full) })).rejects.toBe(
      full,
    )
  })
})

describe('nextPiece', () => {
  it('chooses the rarest of what a peer has, never what was asked for', () => {
    const blob = { root: 'a'.repeat(64), byteLength: 8 * PIECE_BYTES }
    const want = wantPieces(blob, [1, 2, 4, 6], new Uint8Array(256))
    const has = (bits: number) =>
      new Map([[blob.root, { byteLength: blob.byteLength, pieces: Uint8Array.of(bits) }]])
    const all = has(255)
    expect(nextPiece([want], all, [has(0b01000110), has(0b00000110)], () => 0)?.index).toBe(4)
    want.state[4] = ASKED
    expect(nextPiece([want], all, [has(0b01000110), has(0b00000110)], () => 0)?.index).toBe(6)
    expect(nextPiece([want], has(0b10000001), [], () => 0)).toBeUndefined()
    want.state.fill(0)
    expect(nextPiece([want], all, [], () => 0)).toBeUndefined()
  })

  it('never chooses what is not open or not held, and always something where there is something', () => {
    const random = seededRandom(11)
    for (let round = 0; round < 5_000; round++) {
      const wants = Array.from({ length: 1 + random(3) }, (_, i) => {
        const pieces = 1 + random(20)
        const blob = {
          root: String(i).repeat(64),
          byteLength: pieces * PIECE_BYTES - random(PIECE_BYTES - 1),
        }
        const want = wantPieces(blob, [], random(5) > 0 ? new Uint8Array(1) : undefined)
        for (let index = 0; index < pieces; index++) want.state[index] = random(3)
        return want
      })
      const holdings = () =>
        new Map(
          wants.flatMap(({ root, byteLength }) =>
            random(4) === 0
              ? []
              : [
                  [
                    root,
                    { byteLength, pieces: Uint8Array.of(random(256), random(256), random(256)) },
                  ] as const,
                ],
          ),
        )
      const own = holdings()
      const possible = wants.some((want) =>
        [...want.state].some(
          (state, i) =>
            state === OPEN && want.list && ((own.get(want.root)?.pieces[i >> 3] ?? 0) & (1 << (i & 7))) !== 0,
        ),
      )
      const chosen = nextPiece(wants, own, [holdings(), holdings()], () => random(100) / 100)
      expect(chosen !== undefined).toBe(possible)
      if (chosen === undefined) continue
      const { want, index } = chosen
      expect(want.state[index]).toBe(OPEN)
      expect((own.get(want.root)!.pieces[index >> 3]! & (1 << (index & 7))) !== 0).toBe(true)
    }
  })
})
