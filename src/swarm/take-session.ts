import { joinBytes } from '../bytes.ts'
import { ChoraleError, errorMessage } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { type HandoverGrant, parseGrant } from '../protocol/handover-grant.ts'
import {
  type AdoptSource,
  type HandoverMessage,
  parseHandoverMessage,
} from '../protocol/handover-messages.ts'
import { HANDOVER_PROTOCOL } from '../protocol/ids.ts'
import { MAX_HANDOVER_PART_BYTES } from '../protocol/limits.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import { createPartReader, type PartTaken, type TakeOptions, type TakingSession } from './handover-reader.ts'
import type { Peer } from './peer.ts'

/** What came of it. */
export interface Taken {
  /** The session's position now. */
  readonly position: number
  /** Hidden states of the tokens that were taken, where they were wanted. */
  readonly inputs: Uint8Array | undefined
  /** Why it is not all of it. */
  readonly reason: string | undefined
}

/** Finding the other server, handshakes included. */
const DIAL_MS = 3_000
/** Between two parts. */
const PART_MS = 5_000

/**
 * Gets keys and values of a session from the servers that `sources` name, all at once, each for its blocks; as many
 * tokens count as all of them gave. NOT checked: that they are right; the client has the last token computed again.
 * Never rejects.
 */
export async function takeSession(
  peer: Peer,
  session: TakingSession,
  sources: readonly AdoptSource[],
  options: TakeOptions,
): Promise<Taken> {
  const { kv, span, inputs } = session
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const failures: unknown[] = []
  let given: Uint8Array[] = []
  let position = options.from
  try {
    const plans = planSources(peer, session, sources)
    const reached = await Promise.all(
      plans.map(async ({ grant, source }) => {
        const wanted = inputs && grant.start === span.start
        const taking = { ...session, inputs: wanted }
        const result = await takePart(peer, taking, grant, source, { ...options, signal })
        if (result.failure !== undefined) failures.push(result.failure)
        // What one did not give the others need not.
        if (result.reached === options.from) stop.abort()
        if (wanted) given = result.inputs
        return result.reached
      }),
    )
    position = Math.min(...reached)
    if (position > options.from) kv.advance(position)
  } catch (error) {
    failures.push(error)
    position = options.from
  }
  const bytes = (position - options.from) * session.rowBytes
  return {
    position,
    inputs: inputs ? joinBytes(given).subarray(0, bytes) : undefined,
    reason: failures.length > 0 ? errorMessage(failures[0]) : undefined,
  }
}

interface PlannedSource {
  readonly grant: HandoverGrant
  readonly source: AdoptSource
}

/** @throws `protocol` unless the grants are for this server and session and cover its blocks, each once. */
function planSources(
  peer: Peer,
  { client, span }: TakingSession,
  sources: readonly AdoptSource[],
): PlannedSource[] {
  const plans = sources
    .map((source) => ({ source, grant: parseGrant(source.grant).grant }))
    .toSorted((a, b) => a.grant.start - b.grant.start)
  let next = span.start
  for (const { grant } of plans) {
    if (grant.to !== peer.id || grant.client !== client || grant.from === peer.id) {
      throw new ChoraleError('protocol', 'the grant is for another server or client', { field: 'grant' })
    }
    if (grant.start !== next) break
    next = grant.end
  }
  if (next !== span.end || plans.at(-1)?.grant.end !== span.end) {
    throw new ChoraleError('protocol', `the grants do not cover blocks ${span.start}:${span.end} once`, {
      field: 'grant',
    })
  }
  return plans
}

/** Takes one server's blocks. Never rejects: what came before a failure counts. */
async function takePart(
  peer: Peer,
  session: TakingSession,
  grant: HandoverGrant,
  source: AdoptSource,
  options: TakeOptions,
): Promise<PartTaken> {
  const taken: PartTaken = { reached: options.from, inputs: [] }
  /** Parts are checked and written in their order. */
  let turn: Promise<void> = Promise.resolve()
  let over = false
  try {
    const verdict = peer.gate?.check(grant.from, 'serve')
    if (verdict?.ok === false) {
      peer.gate?.refuse('handover')
      throw new ChoraleError('refused', `the server before is not admitted: ${verdict.reason}`)
    }
    const { signal } = options
    const stream = await peer.openStream(grant.from, source.addrs, HANDOVER_PROTOCOL, {
      timeoutMs: Math.max(1, Math.min(DIAL_MS, options.until - performance.now())),
      lazy: true,
      signal,
    })
    await new Promise<void>((resolve, reject) => {
      const reader = createPartReader(peer, session, grant, options, taken)
      let timer: ReturnType<typeof setTimeout> | undefined
      let done = false
      const wait = (): void => {
        clearTimeout(timer)
        const ms = Math.min(PART_MS, options.until - performance.now())
        timer = setTimeout(
          () => wire.fail(new ChoraleError('timeout', `…${grant.from.slice(-8)} gave nothing in time`)),
          Math.max(1, ms),
        )
      }
      const wire: FramedStream = frameStream<HandoverMessage>(stream, {
        parse: parseHandoverMessage,
        maxPayload: MAX_HANDOVER_PART_BYTES,
        onFrame: (message, payload) => {
          wait()
          if (message.type === 'done') {
            done = true
            void turn.then(resolve, reject).finally(() => wire.close())
            return
          }
          const work = reader(message, payload)
          if (!work) return
          // Few parts in memory at a time, whatever the line brings.
          wire.pause()
          turn = turn.then(() => (over ? undefined : work())).finally(() => wire.resume())
          turn.catch((error: unknown) => wire.fail(asError(error)))
        },
        onClose: (error) => {
          clearTimeout(timer)
          signal.removeEventListener('abort', cancel)
          if (done) return
          reject(error ?? new ChoraleError('session_lost', 'the other server closed before it was done'))
        },
      })
      const cancel = (): void => wire.fail(new ChoraleError('cancelled', 'not wanted any more'))
      signal.addEventListener('abort', cancel, { once: true })
      wait()
      if (signal.aborted) return cancel()
      const { from, to } = options
      wire.post(() => encodeFrame({ type: 'take', from, to, inputs: session.inputs }, source.grant))
    })
  } catch (error) {
    taken.failure = error
    // Nothing is written to the session any more once this returned.
    over = true
    await turn.catch(() => undefined)
  }
  return taken
}

function asError(error: unknown): ChoraleError {
  return error instanceof ChoraleError
    ? error
    : new ChoraleError('internal', errorMessage(error), { cause: error })
}
