import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { encodeGrant, grantSignedBytes, type HandoverGrant } from '../protocol/handover-grant.ts'
import { encodeSources } from '../protocol/handover-messages.ts'
import { MAX_GRANT_BYTES } from '../protocol/limits.ts'
import type { Adopt, Opened } from '../protocol/messages.ts'
import { encodeSigned } from '../protocol/signed.ts'
import type { SessionHandover } from '../session/span-runner.ts'
import { signBytes } from './identity.ts'
import type { Peer } from './peer.ts'
import type { RemoteCalls } from './remote-calls.ts'

/** A remote session that is handed over, or takes another one's place. */
export interface RemoteHandoverOptions {
  readonly peer: Peer
  readonly calls: RemoteCalls
  /** The server it is on. */
  readonly server: { readonly peerId: string; readonly addrs: readonly string[] }
  /** As its opening names it. */
  readonly session: Uint8Array
  readonly maxTokens: number
  /** Takes the number of the next request. */
  readonly nextSeq: () => number
  /** The session's position changed. */
  readonly onPosition: (position: number) => void
}

/** After its deadline the server says how far it came: that may take a round trip. */
const ANSWER_MS = 5_000

/** The client's part of hand-overs from and to one session, whose server said in OPENED how it keeps keys and values. */
export function createRemoteHandover(
  { precision, width }: NonNullable<Opened['kv']>,
  options: RemoteHandoverOptions,
): SessionHandover {
  const { peer, calls, server, session } = options
  return {
    precision,
    width,
    async grant(to, { start, end }) {
      const grant: HandoverGrant = {
        session,
        client: peer.id,
        from: server.peerId,
        to,
        start,
        end,
        issuedAt: Date.now(),
      }
      const body = encodeGrant(grant)
      const signature = await signBytes(peer.identity, grantSignedBytes(body))
      return {
        grant: encodeSigned({ body, signature }, 'hand-over grant', MAX_GRANT_BYTES),
        addrs: server.addrs,
      }
    },
    async adopt(grants, { from, to, deadlineMs }) {
      if (calls.failure !== undefined) throw calls.failure
      if (calls.requests.length > 0) {
        throw new ChoraleError('bad_request', `${calls.requests.length} steps are under way`)
      }
      if (!(from >= 0 && from <= calls.position && from < to && to <= options.maxTokens)) {
        throw new ChoraleError(
          'bad_request',
          `tokens ${from}:${to} for a session that holds ${calls.position} of ${options.maxTokens}`,
        )
      }
      const seq = options.nextSeq()
      const message: Adopt = { type: 'adopt', seq, from, position: to, deadlineMs }
      const sources = encodeSources(grants)
      calls.adoptingFrom = from
      const { message: answer } = await calls.ask(
        { kind: 'adopt', seq, position: to, rows: 0, timeoutMs: deadlineMs + ANSWER_MS },
        () => encodeFrame(message, sources),
      )
      if (answer.type === 'adopted' && answer.reason !== undefined) {
        peer.log.debug('a hand-over stopped short', { at: answer.position, to, reason: answer.reason })
      }
      options.onPosition(calls.position)
      return calls.position
    },
  }
}
