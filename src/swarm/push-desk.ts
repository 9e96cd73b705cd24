import { ChoraleError } from '../errors.ts'
import type { Step } from '../protocol/messages.ts'

/** A session that may be fed by another server. */
export interface Feedable {
  /** Refuses a step by its header alone. @throws `protocol`. */
  checkStep(step: Step, payloadLength: number): void
  /** Takes a step that was checked. */
  takeStep(step: Step, payload: Uint8Array): void
}

/** A stream of another server that brings steps. */
export interface Feeder {
  /** The session it feeds is there: what waited may be read now. */
  joined(session: Feedable): void
  pause(): void
  resume(): void
  end(error: ChoraleError): void
}

/** Where streams that push meet the sessions they are for: whichever comes first waits. */
export interface PushDesk {
  /**
   * From now on `session` takes steps from `peerId` when it shows `token`. `onFeeder` is called when it does.
   * @returns takes the permission back.
   */
  accept(token: Uint8Array, peerId: string, session: Feedable, onFeeder: (feeder: Feeder) => void): () => void
  /** A stream of `peerId` shows `token`. @returns forgets it, for when the stream ends. */
  attach(token: Uint8Array, peerId: string, feeder: Feeder): () => void
}

interface Place {
  readonly peerId: string
  readonly session: Feedable
  readonly onFeeder: (feeder: Feeder) => void
}

/**
 * An empty desk. A token is known to the client that drew it and to the two servers it was given to; the peer id
 * beside it is authenticated by the connection, so that a token somebody overheard is worth nothing to others.
 */
export function createPushDesk(): PushDesk {
  const places = new Map<string, Place>()
  const waiting = new Map<string, { readonly peerId: string; readonly feeder: Feeder }>()

  function join(place: Place, peerId: string, feeder: Feeder): void {
    if (place.peerId !== peerId) {
      feeder.end(new ChoraleError('protocol', 'this session takes steps from another peer'))
      return
    }
    place.onFeeder(feeder)
    feeder.joined(place.session)
  }

  return {
    accept(token, peerId, session, onFeeder) {
      const key = keyOf(token)
      const place = { peerId, session, onFeeder }
      places.set(key, place)
      const early = waiting.get(key)
      waiting.delete(key)
      if (early) join(place, early.peerId, early.feeder)
      return () => {
        if (places.get(key) === place) places.delete(key)
      }
    },
    attach(token, peerId, feeder) {
      const key = keyOf(token)
      const place = places.get(key)
      if (place) join(place, peerId, feeder)
      // Nobody else can name this token by accident; whoever guesses one waits until the handshake time is over.
      else if (!waiting.has(key)) waiting.set(key, { peerId, feeder })
      return () => {
        if (waiting.get(key)?.feeder === feeder) waiting.delete(key)
      }
    },
  }
}

function keyOf(token: Uint8Array): string {
  let key = ''
  for (const byte of token) key += byte.toString(16).padStart(2, '0')
  return key
}
