import type { Step } from '../protocol/messages.ts'
import type { FramedStream } from './framed-stream.ts'
import type { Feedable, PushDesk } from './push-desk.ts'

/** A stream of another server that brings steps for one of this server's sessions. */
export interface Feeding {
  /** Whether its session is there. */
  readonly joined: boolean
  check(step: Step, payloadLength: number): void
  take(step: Step, payload: Uint8Array): void
  /** Forgets it, for when the stream ends. */
  detach(): void
}

/** Attaches the stream `wire` of `peerId` by its token; it is not read until its session came. */
export function attachFeeding(
  desk: PushDesk,
  {
    token,
    peerId,
    wire,
  }: { readonly token: Uint8Array; readonly peerId: string; readonly wire: FramedStream },
  events: { readonly onJoined: () => void; readonly onError: (error: unknown) => void },
): Feeding {
  let session: Feedable | undefined
  const early: { readonly step: Step; readonly payload: Uint8Array }[] = []
  const detach = desk.attach(token, peerId, {
    joined: (target) => {
      events.onJoined()
      session = target
      try {
        for (const { step, payload } of early.splice(0)) {
          target.checkStep(step, payload.length)
          target.takeStep(step, payload)
        }
        wire.resume()
      } catch (error) {
        events.onError(error)
      }
    },
    pause: () => wire.pause(),
    resume: () => wire.resume(),
    end: events.onError,
  })
  if (session === undefined) wire.pause()
  return {
    get joined() {
      return session !== undefined
    },
    check: (step, payloadLength) => session?.checkStep(step, payloadLength),
    take: (step, payload) => {
      if (session) {
        // Once more: its header may have come before the session was there.
        session.checkStep(step, payload.length)
        session.takeStep(step, payload)
      } else early.push({ step, payload: payload.slice() })
    },
    detach,
  }
}
