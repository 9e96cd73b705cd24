import { ChoraleError, errorMessage } from '../errors.ts'
import { encodeCbor } from './cbor.ts'
import { MAX_HEADER_BYTES } from './limits.ts'

/**
 * A frame: u32 LE header length, u32 LE payload length, CBOR header, raw payload.
 *
 * The header says what the payload is; tensors are never put through CBOR.
 */

const PREFIX_BYTES = 8

/** Smallest buffer for a frame that comes in pieces; it grows with what really arrived, not with what was promised. */
const FIRST_BUFFER_BYTES = 4096

/** A frame being written: `payload` is the view to fill before `bytes` is sent. */
export interface OutgoingFrame {
  readonly bytes: Uint8Array
  readonly payload: Uint8Array
}

/** A frame with room for `payloadLength` bytes, to be filled in place. NOT checked: limits of the message type. */
export function createFrame(header: object, payloadLength: number): OutgoingFrame {
  const encoded = encodeCbor(header)
  const bytes = new Uint8Array(PREFIX_BYTES + encoded.length + payloadLength)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, encoded.length, true)
  view.setUint32(4, payloadLength, true)
  bytes.set(encoded, PREFIX_BYTES)
  return { bytes, payload: bytes.subarray(PREFIX_BYTES + encoded.length) }
}

/** A whole frame as bytes. */
export function encodeFrame(header: object, payload?: Uint8Array): Uint8Array {
  const frame = createFrame(header, payload?.length ?? 0)
  if (payload !== undefined) frame.payload.set(payload)
  return frame.bytes
}

/**
 * Reads a header as soon as it is complete, before any of its payload is kept.
 * @throws `protocol` when the message is unknown or its payload must not be that long.
 */
export type HeaderParser<Message> = (header: Uint8Array, payloadLength: number) => Message

/**
 * Cuts a byte stream into frames, whatever the chunks. A payload may share memory with the chunk it came in.
 *
 * Memory is at most twice the bytes that arrived of an unfinished frame, plus `FIRST_BUFFER_BYTES`. After an
 * error the reader stays broken: the stream has lost its frame boundaries.
 */
export class FrameReader<Message> {
  readonly #parse: HeaderParser<Message>
  readonly #maxPayload: number
  #buffer: Uint8Array = new Uint8Array(0)
  #length = 0
  /** The header of the unfinished frame at the start of the buffer, once it is complete. */
  #head: { readonly message: Message; readonly payloadAt: number; readonly end: number } | undefined
  #broken: ChoraleError | undefined

  /** `maxPayload` bounds every message; `parse` may be stricter by type. */
  constructor(parse: HeaderParser<Message>, maxPayload: number) {
    this.#parse = parse
    this.#maxPayload = maxPayload
  }

  /** Bytes kept of a frame that is not complete yet. */
  get pendingBytes(): number {
    return this.#length
  }

  /**
   * Takes the next bytes of the stream and calls `onFrame` for each frame they complete, in order, before the header
   * of the next one is read. What `onFrame` throws breaks the reader too. @throws `protocol`.
   */
  push(chunk: Uint8Array, onFrame: (message: Message, payload: Uint8Array) => void): void {
    if (this.#broken !== undefined) throw this.#broken
    try {
      // A Node Buffer's `slice` shares memory, so from here on bytes are plain.
      this.#read(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength), onFrame)
    } catch (error) {
      this.#broken = error instanceof ChoraleError ? error : new ChoraleError('internal', errorMessage(error))
      this.#buffer = new Uint8Array(0)
      this.#length = 0
      throw this.#broken
    }
  }

  #read(chunk: Uint8Array, onFrame: (message: Message, payload: Uint8Array) => void): void {
    const buffered = this.#length > 0
    if (buffered) this.#append(chunk)
    const data = buffered ? this.#buffer.subarray(0, this.#length) : chunk
    let start = 0
    for (;;) {
      this.#head ??= this.#readHead(data, start)
      const head = this.#head
      if (head === undefined || start + head.end > data.length) break
      this.#head = undefined
      onFrame(head.message, data.subarray(start + head.payloadAt, start + head.end))
      start += head.end
    }
    if (!buffered || start > 0) {
      // Frames handed out share the old buffer, so what is left moves to a new one.
      this.#buffer = data.slice(start)
      this.#length = this.#buffer.length
    }
  }

  /** Offsets in the result count from `start`. Undefined while the header is incomplete. */
  #readHead(
    data: Uint8Array,
    start: number,
  ): { message: Message; payloadAt: number; end: number } | undefined {
    if (data.length - start < PREFIX_BYTES) return undefined
    const headerLength = readU32(data, start)
    const payloadLength = readU32(data, start + 4)
    if (headerLength === 0 || headerLength > MAX_HEADER_BYTES) {
      throw new ChoraleError(
        'protocol',
        `frame header of ${headerLength} bytes (1 to ${MAX_HEADER_BYTES} allowed)`,
      )
    }
    if (payloadLength > this.#maxPayload) {
      throw new ChoraleError(
        'protocol',
        `frame payload of ${payloadLength} bytes (at most ${this.#maxPayload})`,
      )
    }
    const payloadAt = PREFIX_BYTES + headerLength
    if (data.length - start < payloadAt) return undefined
    const message = this.#parse(data.subarray(start + PREFIX_BYTES, start + payloadAt), payloadLength)
    return { message, payloadAt, end: payloadAt + payloadLength }
  }

  #append(chunk: Uint8Array): void {
    const needed = this.#length + chunk.length
    if (needed > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#length, FIRST_BUFFER_BYTES))
      grown.set(this.#buffer.subarray(0, this.#length))
      this.#buffer = grown
    }
    this.#buffer.set(chunk, this.#length)
    this.#length = needed
  }
}

function readU32(data: Uint8Array, at: number): number {
  return (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0
}
