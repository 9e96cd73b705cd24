import { ChoraleError, errorMessage } from '../errors.ts'
import {
  type BlobId,
  checkPieceList,
  holdsPiece,
  isPiece,
  pieceCount,
  PIECE_BYTES,
  pieceLength,
} from '../model/blob.ts'
import { encodeBlobQuestion, MAX_HELD_BYTES, MAX_ROOTS, parseHeld } from '../protocol/blob-messages.ts'
import {
  type AskBlob,
  type BlobSource,
  createSource,
  FORGIVE_MS,
  lacks,
  noteAnswer,
  noteFailure,
  type Source,
} from './blob-source.ts'
import { ASKED, missingOf, nextPiece, OPEN, type PieceOf, type Want, wantPieces } from './blob-plan.ts'

/** Pieces wanted of a blob. */
export interface BlobNeed extends BlobId {
  readonly pieces: readonly number[]
  /** Where it is known; otherwise it is asked for first. */
  readonly list?: Uint8Array
}

export interface FetchBlobsOptions {
  readonly ask: AskBlob
  /** Who may have something, best first; asked again while pieces are missing. */
  readonly sources: () => Promise<readonly BlobSource[]>
  /** Keeps a list, a piece: both are checked. What it throws ends the fetch. */
  readonly keepList: (root: string, list: Uint8Array) => Promise<void>
  readonly keepPiece: (root: string, index: number, bytes: Uint8Array, from: string) => Promise<void>
  /** Peers that sent wrong bytes: never asked again, and added to. */
  readonly liars?: Set<string>
  readonly onLiar?: (peerId: string, why: string) => void
  /** Gives up after so long without a new piece (default 20 s), and after so long with nobody to ask (default the same). */
  readonly patienceMs?: number
  readonly aloneMs?: number
  /** One question, connecting included (default 10 s). */
  readonly timeoutMs?: number
  /** Asked at once (default 6). */
  readonly maxSources?: number
  readonly random?: () => number
  readonly signal?: AbortSignal
}

/** What came of whom, and what did not come. */
export interface FetchReport {
  readonly missing: readonly BlobNeed[]
  /** Bytes by peer. */
  readonly from: ReadonlyMap<string, number>
  /** Why peers were left, the last reason each. */
  readonly left: ReadonlyMap<string, string>
}

const TICK_MS = 50
/** How often sources are looked for again while pieces are missing, and what partial holders have got meanwhile. */
const LOOK_AGAIN_MS = 3_000
/** A piece that nobody else can be asked for is asked of a second peer after this long. */
const SLOW_MS = 2_000
/** Lists asked for ahead of their pieces. */
const LISTS_AHEAD = 4

interface Flight {
  readonly source: Source
  readonly since: number
  readonly abort: AbortController
}

/**
 * Fetches pieces from several peers at once, rarest first, as many of each as it answers quickly; checks every one.
 * A peer that sends wrong bytes is left for good, one that fails is left for a while, one that refuses is asked later.
 * What did not come is in the report: that is no error.
 * @throws `cancelled`, and what `keepList` and `keepPiece` throw.
 */
export async function fetchBlobs(
  needs: readonly BlobNeed[],
  options: FetchBlobsOptions,
): Promise<FetchReport> {
  const {
    ask,
    signal,
    timeoutMs = 10_000,
    patienceMs = 20_000,
    aloneMs = patienceMs,
    maxSources = 6,
    random = Math.random,
  } = options
  const liars = options.liars ?? new Set<string>()
  const wants: Want[] = needs.map((need) => wantPieces(need, need.pieces, need.list))
  const byRoot = new Map(wants.map((want) => [want.root, want]))
  const active = new Map<string, Source>()
  const leftUntil = new Map<string, number>()
  const left = new Map<string, string>()
  const from = new Map<string, number>()
  const flights = new Map<string, Flight[]>()
  const listFlights = new Set<string>()
  const state: { open: number; failed: { readonly error: unknown } | undefined } = {
    open: wants.reduce((sum, want) => sum + missingOf(want).length, 0),
    failed: undefined,
  }
  let lastNews = performance.now()
  let lastCompany = lastNews
  const pending = new Set<Promise<void>>()
  let lastLook = -Infinity
  let looking = false
  let wake: () => void = () => undefined

  const fail = (error: unknown): void => {
    state.failed ??= { error }
    wake()
  }
  const leave = (source: Source, why: string, forMs: number): void => {
    if (active.get(source.peerId) !== source) return
    active.delete(source.peerId)
    left.set(source.peerId, why)
    leftUntil.set(source.peerId, performance.now() + forMs)
    source.abort.abort()
    wake()
  }
  const lie = (source: Source, why: string): void => {
    if (!liars.has(source.peerId)) options.onLiar?.(source.peerId, why)
    liars.add(source.peerId)
    leave(source, why, Infinity)
  }
  /** What a failed question says of a peer. */
  const blame = (source: Source, error: unknown): void => {
    if (source.abort.signal.aborted || signal?.aborted === true) return
    if (noteFailure(source, error, patienceMs / 2)) leave(source, errorMessage(error), FORGIVE_MS)
  }
  /** Runs a question; never rejects. */
  const question = (...given: Parameters<typeof runQuestion>): Promise<void> => {
    const run = runQuestion(...given).finally(() => pending.delete(run))
    pending.add(run)
    return run
  }
  const runQuestion = async (
    source: Source,
    bytes: Uint8Array,
    maxAnswerBytes: number,
    abort: AbortSignal,
    take: (answer: Uint8Array | undefined) => Promise<void>,
  ): Promise<void> => {
    source.asking++
    try {
      const signals = [source.abort.signal, abort, ...(signal ? [signal] : [])]
      await take(await ask(source, bytes, { maxAnswerBytes, timeoutMs, signal: AbortSignal.any(signals) }))
    } catch (error) {
      if (!abort.aborted) blame(source, error)
    } finally {
      source.asking--
      wake()
    }
  }

  const tell = async (source: Source): Promise<void> => {
    source.telling = true
    const roots = wants.flatMap((want) => (want.state.some((state) => state !== 0) ? [want.root] : []))
    for (let at = 0; at < roots.length; at += MAX_ROOTS) {
      const some = roots.slice(at, at + MAX_ROOTS)
      await question(
        source,
        encodeBlobQuestion({ ask: 'have', roots: some }),
        MAX_HELD_BYTES,
        source.abort.signal,
        async (answer) => {
          if (answer === undefined) return
          parseHeld(answer, some.length).forEach((held, i) => {
            const root = some[i]!
            // Another length than the one asked for can't be the same blob.
            if (held?.byteLength === byRoot.get(root)?.byteLength) source.held.set(root, held!)
            else source.held.delete(root)
          })
          source.failures = 0
        },
      )
    }
    source.telling = false
    source.toldAt = performance.now()
    wake()
  }

  const askList = async (source: Source, want: Want): Promise<void> => {
    listFlights.add(want.root)
    const most = pieceCount(want.byteLength) * 32
    await question(
      source,
      encodeBlobQuestion({ ask: 'list', root: want.root }),
      most,
      source.abort.signal,
      async (list) => {
        if (list === undefined) return void source.held.delete(want.root)
        try {
          await checkPieceList(want, list)
        } catch (error) {
          return lie(source, errorMessage(error))
        }
        want.list ??= list
        lastNews = performance.now()
        await options.keepList(want.root, list).catch(fail)
      },
    )
    listFlights.delete(want.root)
  }

  const askPiece = async (source: Source, { want, index }: PieceOf): Promise<void> => {
    const key = `${want.root} ${index}`
    const flight: Flight = { source, since: performance.now(), abort: new AbortController() }
    flights.set(key, [...(flights.get(key) ?? []), flight])
    want.state[index] = ASKED
    await question(
      source,
      encodeBlobQuestion({ ask: 'piece', root: want.root, index }),
      PIECE_BYTES,
      flight.abort.signal,
      async (bytes) => {
        if (bytes === undefined) return lacks(source, want, index)
        const right =
          bytes.length === pieceLength(want.byteLength, index) && (await isPiece(want.list!, index, bytes))
        if (!right) return lie(source, `piece ${index} of ${want.root} has other bytes`)
        if (want.state[index] === 0) return
        want.state[index] = 0
        noteAnswer(source)
        from.set(source.peerId, (from.get(source.peerId) ?? 0) + bytes.length)
        lastNews = performance.now()
        // Whoever else was asked for it need not go on.
        for (const other of flights.get(key) ?? []) if (other !== flight) other.abort.abort()
        await options.keepPiece(want.root, index, bytes, source.peerId).catch(fail)
        // Counted when it is kept: who gets the report finds everything in place.
        state.open--
      },
    )
    const others = (flights.get(key) ?? []).filter((other) => other !== flight)
    if (others.length > 0) flights.set(key, others)
    else {
      flights.delete(key)
      if (want.state[index] === ASKED) {
        want.state[index] = OPEN
        want.from = Math.min(want.from, index)
      }
    }
    wake()
  }

  /** A piece that somebody else is slow with. */
  const slowPiece = (source: Source): PieceOf | undefined => {
    const now = performance.now()
    for (const [key, [flight, second]] of flights) {
      if (flight === undefined || second !== undefined || flight.source === source) continue
      const [root = '', index] = key.split(' ')
      const want = byRoot.get(root)!
      const held = source.held.get(root)
      if (now - flight.since > SLOW_MS && held && holdsPiece(held, Number(index)))
        return { want, index: Number(index) }
    }
    return undefined
  }

  const look = async (): Promise<void> => {
    looking = true
    lastLook = performance.now()
    try {
      for (const { peerId, addrs } of await options.sources()) {
        if (active.size >= maxSources) break
        if (active.has(peerId) || liars.has(peerId)) continue
        if ((leftUntil.get(peerId) ?? 0) > performance.now()) continue
        const source = createSource({ peerId, addrs })
        active.set(peerId, source)
        void tell(source)
      }
    } catch (error) {
      left.set('directory', errorMessage(error))
    }
    looking = false
    wake()
  }

  /** Gives a peer all questions it has room for. */
  const feed = (source: Source): void => {
    const now = performance.now()
    if (source.telling || source.readyAt > now) return
    const others = [...active.values()].filter((other) => other !== source).map(({ held }) => held)
    while (source.asking < Math.floor(source.window)) {
      const listless = wants
        .filter((want) => want.list === undefined && want.state.includes(OPEN))
        .slice(0, LISTS_AHEAD)
        .find((want) => source.held.has(want.root) && !listFlights.has(want.root))
      if (listless !== undefined) void askList(source, listless)
      else {
        const piece = nextPiece(wants, source.held, others, random) ?? slowPiece(source)
        if (piece === undefined) break
        void askPiece(source, piece)
      }
    }
    // It has nothing for us, or had not told: partial holders get more, and who failed is asked again.
    if (source.asking === 0 && now - (source.toldAt ?? -Infinity) > LOOK_AGAIN_MS) void tell(source)
  }

  const onAbort = (): void => fail(new ChoraleError('cancelled', 'cancelled'))
  signal?.addEventListener('abort', onAbort, { once: true })
  if (signal?.aborted === true) onAbort()
  try {
    while (state.open > 0 && state.failed === undefined) {
      const now = performance.now()
      if (active.size > 0 || looking) lastCompany = now
      if (now - lastNews > patienceMs || now - lastCompany > aloneMs) break
      if (!looking && active.size < maxSources && now - lastLook > LOOK_AGAIN_MS) void look()
      for (const source of active.values()) feed(source)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, TICK_MS)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    for (const { abort } of active.values()) abort.abort()
    // What is being kept is kept: nothing writes when whoever called has gone on.
    await Promise.all(pending)
  }
  if (state.failed !== undefined) throw state.failed.error
  const missing = wants.flatMap((want) => {
    const pieces = missingOf(want)
    const { root, byteLength, list } = want
    return pieces.length === 0 ? [] : [{ root, byteLength, pieces, ...(list && { list }) }]
  })
  return { missing, from, left }
}
