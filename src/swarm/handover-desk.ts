import { bytesToHex } from '@noble/hashes/utils.js'
import type { NumericMode } from '../protocol/receipts.ts'
import type { Opening } from '../protocol/opening.ts'
import type { SessionKv, SpanSession } from '../session/span-runner.ts'

/** A running session whose keys and values other servers may ask for, when its client says so. */
export interface GivenSession {
  readonly opening: Opening
  readonly hosted: Pick<SpanSession, 'position'>
  readonly kv: SessionKv
  readonly engine: string
  readonly numericMode: NumericMode
  /** Bytes of one token's hidden state on the wire. */
  readonly rowBytes: number
  /** `SessionTap.inputs` of it. */
  readonly inputs: (from: number, to: number) => Uint8Array | undefined
  /** Tokens times blocks given so far. */
  given: number
}

/** The sessions of one server that can be handed over. */
export interface HandoverDesk {
  /** @returns takes the session back, for when it ends. */
  add(session: GivenSession): () => void
  /** A client's session by its id; undefined when it is not here, or not any more. */
  find(client: string, session: Uint8Array): GivenSession | undefined
}

/** An empty desk. Names of sessions are the clients' own, so the client is part of the key. */
export function createHandoverDesk(): HandoverDesk {
  const sessions = new Map<string, GivenSession>()
  const keyOf = (client: string, session: Uint8Array): string => `${client} ${bytesToHex(session)}`
  return {
    add: (given) => {
      const key = keyOf(given.opening.client, given.opening.session)
      sessions.set(key, given)
      return () => {
        if (sessions.get(key) === given) sessions.delete(key)
      }
    },
    find: (client, session) => sessions.get(keyOf(client, session)),
  }
}
