import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { SPAN_PROTOCOL } from '../protocol/ids.ts'
import { MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import type { SpanMessage } from '../protocol/messages.ts'
import { checkOpen } from '../session/check-step.ts'
import type { SpanSession } from '../session/span-runner.ts'
import { frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'
import { RemoteCalls } from './remote-calls.ts'
import { RemoteSession, type RemoteSessionOptions, type RemoteSpanTarget } from './remote-session.ts'

/** Dials, says HELLO, opens a session. Errors: see `connectRemoteSpan`. */
export async function openRemoteSession(
  peer: Peer,
  target: RemoteSpanTarget,
  options: RemoteSessionOptions,
): Promise<SpanSession> {
  const { timeouts, signal } = options
  checkOpen({ maxTokens: options.maxTokens, ...(signal && { signal }) })
  const verdict = peer.gate?.check(target.peerId, 'serve')
  if (verdict?.ok === false) {
    peer.gate?.refuse('dial')
    throw new ChoraleError('refused', `peer ${target.peerId} is not admitted as a server: ${verdict.reason}`)
  }
  const stream = await peer.openStream(target.peerId, target.addrs, SPAN_PROTOCOL, {
    timeoutMs: timeouts.dialMs,
    lazy: true,
    ...(signal && { signal }),
  })
  const calls = new RemoteCalls(target.peerId, options.hiddenSize, peer.gate)
  calls.attach(
    frameStream<SpanMessage>(stream, {
      parse: (header, length) => calls.parse(header, length),
      maxPayload: MAX_STEP_PAYLOAD_BYTES,
      onFrame: (message, payload) => calls.receive(message, payload),
      onClose: (error) =>
        calls.fail(error ?? new ChoraleError('session_lost', `${calls.server} closed the session`)),
      heartbeat: {
        frame: () => encodeFrame({ type: 'ping' }),
        everyMs: timeouts.heartbeatMs,
        silenceMs: timeouts.silenceMs,
      },
    }),
  )
  const session = new RemoteSession(peer, target, options, calls)
  await session.open()
  return session
}
