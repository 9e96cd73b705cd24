import type { StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'

/** What a yamux stream is inside, as far as it is read here; not in the library's types. */
interface YamuxInside {
  readonly state?: number
  /** Bytes that the other end may send in a full window, and how many of them it still may. */
  readonly recvWindow?: number
  readonly recvWindowCapacity?: number
  sendWindowUpdate?: () => void
}

/** What tells a muxer of streams that the other end opened. */
interface MuxerInside {
  onRemoteStream?: (stream: YamuxInside) => void
}

/** States in which a window update carries nothing but the update: SYNSent and Established. */
const PLAIN_STATES: ReadonlySet<number | undefined> = new Set([1, 3])
/** Of the window, how much is taken in before the other end is told that it may send more. */
const PART = 4

/**
 * A yamux muxer that opens its window when a quarter of it is used.
 *
 * The library does so after every frame, so that each message – one token's hidden state – is answered by another one:
 * encrypted, sent, a wake-up of the other end. Other implementations wait for half a window.
 */
export function rareWindowUpdates<Components>(
  factory: (components: Components) => StreamMuxerFactory,
): (components: Components) => StreamMuxerFactory {
  return (components) => {
    const muxers = factory(components)
    const createStreamMuxer = muxers.createStreamMuxer.bind(muxers)
    muxers.createStreamMuxer = (connection) => watchStreams(createStreamMuxer(connection))
    return muxers
  }
}

function watchStreams(muxer: StreamMuxer & MuxerInside): StreamMuxer {
  const createStream = muxer.createStream.bind(muxer)
  muxer.createStream = async (options) => {
    const stream = await createStream(options)
    updateRarely(stream as YamuxInside)
    return stream
  }
  const onRemoteStream = muxer.onRemoteStream?.bind(muxer)
  if (onRemoteStream) {
    muxer.onRemoteStream = (stream) => {
      updateRarely(stream)
      onRemoteStream(stream)
    }
  }
  return muxer
}

/** Does nothing to a stream of another version of the library, with another inside. */
function updateRarely(stream: YamuxInside): void {
  const update = stream.sendWindowUpdate?.bind(stream)
  if (update === undefined || stream.recvWindow === undefined || stream.recvWindowCapacity === undefined) {
    return
  }
  stream.sendWindowUpdate = () => {
    const { recvWindow = 0, recvWindowCapacity = 0 } = stream
    const used = recvWindow - recvWindowCapacity
    if (PLAIN_STATES.has(stream.state) && used * PART < recvWindow) return
    update()
  }
}
