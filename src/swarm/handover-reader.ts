import { ChoraleError } from '../errors.ts'
import type { HandoverGrant } from '../protocol/handover-grant.ts'
import type { HandoverMessage, Held, Part } from '../protocol/handover-messages.ts'
import type { NumericMode } from '../protocol/receipts.ts'
import { refusalError } from '../protocol/refusal.ts'
import { fromWire } from '../protocol/wire-dtype.ts'
import type { SessionKv, Span } from '../session/span-runner.ts'
import { allFinite } from '../sampling/filters.ts'
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

/** Tokens [from, to) to be taken, and until when (by `performance.now()`). */
export interface TakeOptions {
  readonly from: number
  readonly to: number
  readonly until: number
  /** Aborts when the session is over. */
  readonly signal: AbortSignal
}

/** What one server gave so far. */
export interface PartTaken {
  reached: number
  readonly inputs: Uint8Array[]
  failure?: unknown
}

/** Reads HELD and PARTs; what they say must follow each other. Gives what is to be done with a part. */
export function createPartReader(
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
    if (!allFinite(rows)) throw wrong('keys and values that are no numbers')
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
