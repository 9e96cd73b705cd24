import type { Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import { FrameReader, type HeaderParser } from '../protocol/frame.ts'

export interface FramedStreamOptions<Message> {
  readonly parse: HeaderParser<Message>
  /** Bound of every payload; `parse` may be stricter by message. */
  readonly maxPayload: number
  /** Called for each frame in order. What it throws ends the stream as `fail` does. */
  readonly onFrame: (message: Message, payload: Uint8Array) => void
  /** Called once, when the stream is over for any reason; undefined when the other end closed it properly. */
  readonly onClose: (error: ChoraleError | undefined) => void
  /** Sends this when nothing was sent for `everyMs`; ends the stream when nothing came for `silenceMs`. */
  readonly heartbeat?: {
    readonly frame: () => Uint8Array
    readonly everyMs: number
    readonly silenceMs: number
  }
}

/**
 * Frames over one libp2p stream, with backpressure in both directions.
 *
 * Sending: a frame is handed to libp2p only when it asked for more, so at most one frame waits in its buffers.
 * Reading: `pause` stops window updates; the other end may then send at most the yamux window (2 MiB).
 */
export interface FramedStream {
  /**
   * Sends what `make` returns once the stream accepts it, after all earlier sends. Resolves when it was handed over.
   * @throws the error that ended the stream, or `session_lost`.
   */
  send(make: () => Uint8Array): Promise<void>
  /** Like `send`, for frames nobody waits for: errors are dropped, the stream's end tells. */
  post(make: () => Uint8Array): void
  /** True while a frame waits for the other end to read. */
  readonly congested: boolean
  pause(): void
  resume(): void
  /** Sends what is queued, then closes both directions. Never throws; cuts the stream after two seconds. */
  close(): Promise<void>
  /** Cuts the stream at once; `onClose` gets `error`. */
  fail(error: ChoraleError): void
}

const RESOLVED = Promise.resolve()
const CLOSE_TIMEOUT_MS = 2_000

/** Wraps `stream`. Must be called in the same tick in which the stream was handed over, or first bytes could be missed. */
export function frameStream<Message>(stream: Stream, options: FramedStreamOptions<Message>): FramedStream {
  const reader = new FrameReader(options.parse, options.maxPayload)
  let ended: { readonly error: ChoraleError | undefined } | undefined
  let closing = false
  let waiting = 0
  let tail: Promise<void> = RESOLVED
  let paused = false
  let lastSent = performance.now()
  let lastReceived = lastSent

  const end = (error: ChoraleError | undefined): void => {
    if (ended !== undefined) return
    ended = { error }
    clearInterval(timer)
    stream.removeEventListener('message', onMessage)
    stream.removeEventListener('close', onStreamClose)
    stream.removeEventListener('remoteCloseWrite', onRemoteClose)
    options.onClose(error)
  }
  const fail = (error: ChoraleError): void => {
    if (ended !== undefined) return
    end(error)
    stream.abort(error)
  }
  const onMessage = (event: { data: Uint8Array | Iterable<Uint8Array> }): void => {
    lastReceived = performance.now()
    try {
      const chunks = event.data instanceof Uint8Array ? [event.data] : event.data
      for (const chunk of chunks) {
        if (ended !== undefined) return
        reader.push(chunk, onFrame)
      }
    } catch (error) {
      fail(error instanceof ChoraleError ? error : internal(error))
    }
  }
  const onFrame = (message: Message, payload: Uint8Array): void => {
    if (ended === undefined) options.onFrame(message, payload)
  }
  const onStreamClose = (event: { error?: Error }): void => {
    end(event.error === undefined && closing ? undefined : lost(event.error))
  }
  // The other end finished sending: nothing more can come, so the session is over.
  const onRemoteClose = (): void => {
    end(reader.pendingBytes > 0 ? cutShort() : undefined)
    void shut()
  }
  const shut = async (): Promise<void> => {
    try {
      await stream.close({ signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) })
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }

  const send = (make: () => Uint8Array): Promise<void> => {
    if (ended !== undefined || closing) return Promise.reject(ended?.error ?? lost(undefined))
    if (waiting === 0 && !stream.writableNeedsDrain) {
      try {
        write(make())
        return RESOLVED
      } catch (error) {
        return Promise.reject(error instanceof ChoraleError ? error : lost(error))
      }
    }
    waiting++
    const turn = sendAfter(tail, make)
    tail = turn.catch(() => undefined)
    return turn
  }
  const sendAfter = async (earlier: Promise<void>, make: () => Uint8Array): Promise<void> => {
    await earlier
    try {
      // A drain may be over before this turn runs, hence the loop. `stream.onDrain()` resolves early, never use it.
      while (stream.writableNeedsDrain) await drained(stream)
      if (ended !== undefined) throw ended.error ?? lost(undefined)
      write(make())
    } finally {
      waiting--
    }
  }
  const post = (make: () => Uint8Array): void => {
    send(make).catch(() => undefined)
  }
  const write = (bytes: Uint8Array): void => {
    lastSent = performance.now()
    stream.send(bytes)
  }

  let lastTick = performance.now()
  const heartbeat = options.heartbeat
  const timer =
    heartbeat === undefined
      ? undefined
      : setInterval(() => {
          const now = performance.now()
          // This process itself was busy or asleep: what arrived meanwhile was not read yet, so don't blame the peer.
          if (paused || now - lastTick > 2 * heartbeat.everyMs) lastReceived = now
          lastTick = now
          if (now - lastReceived > heartbeat.silenceMs) {
            const seconds = Math.round((now - lastReceived) / 1000)
            fail(new ChoraleError('timeout', `the other end was silent for ${seconds} s`))
          } else if (waiting === 0 && now - lastSent >= heartbeat.everyMs && !closing) {
            post(heartbeat.frame)
          }
        }, heartbeat.everyMs / 2)

  stream.addEventListener('close', onStreamClose)
  stream.addEventListener('remoteCloseWrite', onRemoteClose)
  stream.addEventListener('message', onMessage)
  return {
    send,
    post,
    get congested() {
      return waiting > 0 || stream.writableNeedsDrain
    },
    pause: () => {
      if (paused || ended !== undefined || stream.readStatus !== 'readable') return
      paused = true
      stream.pause()
    },
    resume: () => {
      if (!paused) return
      paused = false
      if (ended === undefined && stream.readStatus === 'paused') stream.resume()
    },
    close: async () => {
      if (closing) return
      closing = true
      if (ended === undefined && waiting > 0) {
        const cut = setTimeout(() => stream.abort(lost(undefined)), CLOSE_TIMEOUT_MS)
        await tail
        clearTimeout(cut)
      }
      await shut()
      end(undefined)
    },
    fail,
  }
}

function drained(stream: Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    const onDrain = (): void => {
      cleanUp()
      resolve()
    }
    const onClose = (event: { error?: Error }): void => {
      cleanUp()
      reject(lost(event.error))
    }
    const cleanUp = (): void => {
      stream.removeEventListener('drain', onDrain)
      stream.removeEventListener('close', onClose)
    }
    stream.addEventListener('drain', onDrain)
    stream.addEventListener('close', onClose)
  })
}

function lost(cause: unknown): ChoraleError {
  if (cause instanceof ChoraleError) return cause
  const reason = cause === undefined ? 'it closed' : errorMessage(cause)
  return new ChoraleError('session_lost', `the connection was lost: ${reason}`, { cause })
}

/** Counted by who served: a frame that was cut is no word of goodbye. */
function cutShort(): ChoraleError {
  return new ChoraleError('session_lost', 'the connection was lost: it ended inside a frame', {
    field: 'frame',
  })
}

function internal(cause: unknown): ChoraleError {
  return new ChoraleError('internal', errorMessage(cause), { cause })
}
