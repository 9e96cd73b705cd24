import { joinBytes } from '../bytes.ts'
import { ChoraleError, errorMessage } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { type HandoverGrant, parseGrant } from '../protocol/handover-grant.ts'
import {
  type AdoptSource,
  type HandoverMessage,
  type Held,
  type Part,
  parseHandoverMessage,
} from '../protocol/handover-messages.ts'
import { HANDOVER_PROTOCOL } from '../protocol/ids.ts'
import { MAX_HANDOVER_PART_BYTES } from '../protocol/limits.ts'
import type { NumericMode } from '../protocol/receipts.ts'
import { refusalError } from '../protocol/refusal.ts'
import { fromWire } from '../protocol/wire-dtype.ts'
import type { SessionKv, Span } from '../session/span-runner.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'

/** A session here that is to hold what others hold of it. */
export interface TakingSession {
  readonly client: string
  readonly modelId: string
  readonly span: Span
  readonly kv: SessionKv
  readonly numericMode: NumericMode
  /** Bytes of one token's hidden state as the session's client sends it. */
  readonly rowBytes: number
  /** Whether what went into the span is wanted too. */
  readonly inputs: boolean
}

/** What came of it. */
export interface Taken {
  /** The session's position now. */
  readonly position: number
  /** Hidden states of the tokens that were taken, where they were wanted. */
  readonly inputs: Uint8Array | undefined
  /** Why it is not all of it. */
  readonly reason: string | undefined
}

/** Tokens [from, to) to be taken, and until when (by `performance.now()`). */
export interface TakeOptions {
  readonly from: number
  readonly to: number
  readonly until: number
  /** Aborts when the session is over. */
  readonly signal: AbortSignal
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

interface PartTaken {
  reached: number
  readonly inputs: Uint8Array[]
  failure?: unknown
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

/** Reads HELD and PARTs; what they say must follow each other. Gives what is to be done with a part. */
function createPartReader(
  peer: Peer,
  { modelId, kv, numericMode, rowBytes, inputs }: TakingSession,
  { start, end, from: giver }: HandoverGrant,
  options: TakeOptions,
  taken: PartTaken,
): (message: HandoverMessage, payload: Uint8Array) => (() => Promise<void>) | undefined {
  let held: Held | undefined
  /** Tokens whose inputs came, before their keys and values do. */
  let inputsTo = options.from
  let next = options.from
  const wrong = (message: string): ChoraleError => new ChoraleError('protocol', message)

  const write = async (part: Part, payload: Uint8Array): Promise<void> => {
    const digest = await peer.digest(payload)
    if (digest.some((byte, i) => byte !== part.digest[i])) throw wrong('a part is not what its digest says')
    if (options.signal.aborted) throw new ChoraleError('cancelled', 'not wanted any more')
    if (part.what === 'inputs') {
      taken.inputs.push(payload.slice())
      return
    }
    const { from, to } = part
    const rows = fromWire(payload, 'f32')
    if (!rows.every(Number.isFinite)) throw wrong('keys and values that are no numbers')
    kv.write({ start, end, from, to }, rows)
    taken.reached = to
  }

  return (message, payload) => {
    switch (message.type) {
      case 'held':
        if (held) throw wrong('held twice')
        held = message
        if (message.precision !== kv.precision || message.width !== kv.width) {
          throw new ChoraleError(
            'not_supported',
            `keys and values of ${message.width} ${message.precision} values, these are ${kv.width} ${kv.precision}`,
          )
        }
        if (message.modelId !== modelId || message.numericMode !== numericMode) {
          throw new ChoraleError(
            'not_supported',
            `it computes ${message.modelId} in ${message.numericMode} mode, this ${modelId} in ${numericMode}`,
          )
        }
        if (message.to > options.to || message.to < options.from) throw wrong('more than was asked for')
        return undefined
      case 'part': {
        const { what, from, to } = message
        const isInputs = what === 'inputs'
        if (held === undefined || to > held.to || from !== (isInputs ? inputsTo : next)) {
          throw wrong(`tokens ${from}:${to} come out of turn`)
        }
        if (inputs ? isInputs !== (inputsTo === next) : isInputs) throw wrong('keys and inputs out of turn')
        if (inputs && !isInputs && to !== inputsTo) throw wrong('keys of other tokens than the inputs')
        const bytes = (to - from) * (isInputs ? rowBytes : 2 * (end - start) * kv.width * 4)
        if (payload.length !== bytes) throw wrong(`${payload.length} bytes instead of ${bytes}`)
        if (isInputs) inputsTo = to
        else next = to
        return () => write(message, payload)
      }
      case 'refused':
        throw refusalError(`server …${giver.slice(-8)}`, message)
      default:
        throw wrong(`it sent ${message.type}`)
    }
  }
}

function asError(error: unknown): ChoraleError {
  return error instanceof ChoraleError
    ? error
    : new ChoraleError('internal', errorMessage(error), { cause: error })
}
