import { ChoraleError } from '../errors.ts'
import type { WireDtype } from '../protocol/wire-dtype.ts'
import type { SpanRunner } from '../session/span-runner.ts'
import type { Peer } from './peer.ts'
import { openRemoteSession } from './open-remote-session.ts'
import type { RemoteSpanTarget } from './remote-session.ts'
import { DEFAULT_TIMEOUTS, type RemoteTimeouts } from './remote-timeouts.ts'

export interface RemoteSpanOptions {
  readonly hiddenSize: number
  /** How activations should travel (default `f32`: bit for bit). The server may answer with f32. */
  readonly dtype?: WireDtype
  readonly timeouts?: Partial<RemoteTimeouts>
}

/**
 * A span that another peer runs. Nothing is dialled before `open()`; sessions share one connection to the peer.
 * Errors of `open`: `unreachable`, `timeout`, `capacity`, `not_found`, `not_supported`, `protocol`, `cancelled`.
 * Errors of a step: those, or `session_lost`; the session is over then and its lease on the server is free.
 * NOT checked: that the outputs are right, only that they are finite and have the right shape.
 */
export function connectRemoteSpan(
  peer: Peer,
  record: RemoteSpanTarget,
  options: RemoteSpanOptions,
): SpanRunner {
  const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts }
  let closed = false
  return {
    modelId: record.modelId,
    hiddenSize: options.hiddenSize,
    span: { start: record.start, end: record.end },
    open: async (open) => {
      if (closed) throw new ChoraleError('bad_request', 'the remote span is closed')
      return await openRemoteSession(peer, record, {
        hiddenSize: options.hiddenSize,
        dtype: options.dtype ?? 'f32',
        timeouts,
        maxTokens: open.maxTokens,
        signal: open.signal,
        push: open.push,
        onSent: open.onSent,
      })
    },
    close: async () => {
      closed = true
    },
  }
}
