import type { CreateStreamOptions, Stream, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'
import { StreamMessageEvent } from '@libp2p/interface'
import { ChoraleError } from '../errors.ts'

/**
 * Streams that may be written to before the other end agreed to their protocol: on a far link that saves the round
 * trip of multistream-select. The bytes are the same, so the other end notices nothing.
 */

/** Asks for such a stream, among the options of `Connection.newStream`. */
export interface LazyNegotiation {
  readonly lazy: {
    /** How long the other end may take to agree. */
    readonly timeoutMs: number
    /** Called when it took longer and the stream was aborted. */
    readonly onSilent: () => void
  }
}

const MULTISTREAM = '/multistream/1.0.0'
const MAX_PLAIN_LENGTH = 127

/** A stream muxer that knows `LazyNegotiation`. */
export function lazyNegotiation<Components>(
  factory: (components: Components) => StreamMuxerFactory,
): (components: Components) => StreamMuxerFactory {
  return (components) => {
    const muxers = factory(components)
    const createStreamMuxer = muxers.createStreamMuxer.bind(muxers)
    muxers.createStreamMuxer = (connection) => withLazyStreams(createStreamMuxer(connection))
    return muxers
  }
}

function withLazyStreams(muxer: StreamMuxer): StreamMuxer {
  const createStream = muxer.createStream.bind(muxer)
  muxer.createStream = async (options?: CreateStreamOptions & Partial<LazyNegotiation>) => {
    const stream = await createStream(options)
    const { protocol, lazy } = options ?? {}
    if (lazy && protocol !== undefined && protocol.length < MAX_PLAIN_LENGTH) propose(stream, protocol, lazy)
    return stream
  }
  return muxer
}

/** Writes the proposal and takes the answer, which repeats it, out of what comes in. */
function propose(stream: Stream, protocol: string, { timeoutMs, onSilent }: LazyNegotiation['lazy']): void {
  const proposal = new Uint8Array([...line(MULTISTREAM), ...line(protocol)])
  let agreed = 0
  const end = (): void => {
    clearTimeout(timer)
    stream.removeEventListener('message', onMessage)
    stream.removeEventListener('close', end)
  }
  const timer = setTimeout(() => {
    end()
    stream.abort(new ChoraleError('timeout', `no agreement to ${protocol} within ${timeoutMs} ms`))
    onSilent()
  }, timeoutMs)
  const onMessage = (event: StreamMessageEvent): void => {
    event.stopImmediatePropagation()
    const bytes = event.data.subarray()
    let at = 0
    while (at < bytes.length && agreed < proposal.length) {
      if (bytes[at++] !== proposal[agreed++]) {
        end()
        return stream.abort(new ChoraleError('not_supported', `the peer does not speak ${protocol}`))
      }
    }
    if (agreed < proposal.length) return
    end()
    if (at < bytes.length) stream.dispatchEvent(new StreamMessageEvent(bytes.subarray(at)))
  }
  stream.addEventListener('message', onMessage)
  stream.addEventListener('close', end)
  stream.protocol = protocol
  stream.send(proposal)
}

function line(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(`${text}\n`)
  return new Uint8Array([bytes.length, ...bytes])
}
