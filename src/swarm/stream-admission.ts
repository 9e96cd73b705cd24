import { ChoraleError } from '../errors.ts'
import type { StakeVerdict } from '../ledger/stake-verdict.ts'
import type { Hello } from '../protocol/messages.ts'
import type { FramedStream } from './framed-stream.ts'
import type { StakeGate } from './stake-gate.ts'

/** What the other end of a stream does here: a client infers, a server that pushes serves. */
export type StreamAction = 'infer' | 'serve'

/** Whether the peer at the other end of one stream may say what it says. Without a gate everybody may. */
export interface StreamAdmission {
  readonly action: StreamAction
  /** Its stream is not read now, because it said too much. */
  readonly throttled: boolean
  /**
   * Admits who says HELLO: by stake, at once (undefined), or by the pass it shows, which takes a moment.
   * @throws `refused`, `capacity`, `protocol`.
   */
  greet(hello: Hello): Promise<void> | undefined
  /** For every message. @throws `refused` for a peer whose admission is gone. */
  check(action: StreamAction): void
  /** For every message: stops reading somebody who says too much, for as long as it was too much. */
  slowDown(wire: FramedStream): void
  close(): void
}

/** Longest time for which a stream is not read: a busy peer's next messages wait, they are not refused. */
const MAX_THROTTLE_MS = 5_000

/** The admission of `peerId`, as the connection authenticated it. */
export function createStreamAdmission(gate: StakeGate | undefined, peerId: string): StreamAdmission {
  let action: StreamAction = 'infer'
  let throttle: ReturnType<typeof setTimeout> | undefined

  const admit = async (by: StakeGate, what: StreamAction, pass: Uint8Array | undefined): Promise<void> => {
    if (what === 'infer' && pass) await by.show(peerId, pass)
    if (by.check(peerId, what).ok) return
    // It may be one that only the ledger knows: a bootnode, an overwatch node.
    const verdict = await by.resolve(peerId, what)
    if (!verdict.ok) throw notAdmitted(verdict)
  }

  return {
    get action() {
      return action
    },
    get throttled() {
      return throttle !== undefined
    },
    greet: (hello) => {
      action = hello.role === 'server' ? 'serve' : 'infer'
      if (gate === undefined || gate.check(peerId, action).ok) return undefined
      return admit(gate, action, hello.pass?.slice())
    },
    check: (what) => {
      const verdict = gate?.check(peerId, what)
      if (verdict?.ok === false) throw notAdmitted(verdict)
    },
    slowDown: (wire) => {
      const waitMs = gate?.takeMessage(peerId) ?? 0
      if (waitMs <= 0 || throttle !== undefined) return
      wire.pause()
      throttle = setTimeout(
        () => {
          throttle = undefined
          wire.resume()
        },
        Math.min(waitMs, MAX_THROTTLE_MS),
      )
    },
    close: () => clearTimeout(throttle),
  }
}

function notAdmitted({ reason, retryAfterMs }: Extract<StakeVerdict, { ok: false }>): ChoraleError {
  return new ChoraleError('refused', `not admitted: ${reason}`, {
    field: 'stake',
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  })
}
