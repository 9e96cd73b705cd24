import { ChoraleError } from '../../../errors.ts'

/** Deepest nesting of named types in one value; stops a stack overflow by batches within batches. Substrate allows 256. */
const MAX_DEPTH = 128

/** Reads SCALE primitives from bytes that anybody may have sent. @throws `ledger` where they end early or are not canonical. */
export class ScaleReader {
  readonly bytes: Uint8Array
  offset = 0
  readonly #view: DataView
  #depth = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get remaining(): number {
    return this.bytes.length - this.offset
  }

  /** Moves on by `count` bytes. @returns where they began. */
  skip(count: number): number {
    if (count > this.remaining)
      throw new ChoraleError(
        'ledger',
        `SCALE: ${count} bytes expected at ${this.offset}, ${this.remaining} left`,
      )
    const start = this.offset
    this.offset = start + count
    return start
  }

  /** A copy of the next `count` bytes. */
  take(count: number): Uint8Array {
    const start = this.skip(count)
    return this.bytes.slice(start, start + count)
  }

  /** Unsigned or signed integer of 1, 2 or 4 bytes. */
  small(size: 1 | 2 | 4, signed: boolean): number {
    const start = this.skip(size)
    if (size === 1) return signed ? this.#view.getInt8(start) : this.#view.getUint8(start)
    if (size === 2) return signed ? this.#view.getInt16(start, true) : this.#view.getUint16(start, true)
    return signed ? this.#view.getInt32(start, true) : this.#view.getUint32(start, true)
  }

  /** Unsigned or signed integer of 8, 16 or 32 bytes. */
  big(size: 8 | 16 | 32, signed: boolean): bigint {
    const start = this.skip(size)
    const top = start + size - 8
    let value = signed ? this.#view.getBigInt64(top, true) : this.#view.getBigUint64(top, true)
    for (let at = top - 8; at >= start; at -= 8) value = (value << 64n) | this.#view.getBigUint64(at, true)
    return value
  }

  /** Compact integer in its shortest form. */
  compact(): bigint {
    const mode = this.small(1, false)
    if ((mode & 3) === 0) return BigInt(mode >>> 2)
    this.offset--
    if ((mode & 3) === 1) return this.#canonical(BigInt(this.small(2, false) >>> 2), 1n << 6n)
    if ((mode & 3) === 2) return this.#canonical(BigInt(this.small(4, false) >>> 2), 1n << 14n)
    this.offset++
    const size = (mode >>> 2) + 4
    const start = this.skip(size)
    let value = 0n
    for (let at = start + size - 1; at >= start; at--) value = (value << 8n) | BigInt(this.bytes[at] ?? 0)
    return this.#canonical(value, size === 4 ? 1n << 30n : 1n << BigInt(8 * (size - 1)))
  }

  #canonical(value: bigint, least: bigint): bigint {
    if (value < least)
      throw new ChoraleError('ledger', `SCALE: compact integer ${value} is not in its shortest form`)
    return value
  }

  /**
   * How many elements follow, checked against the bytes that are left before anything is allocated.
   * @param least bytes that one element takes at least
   */
  count(least: number): number {
    const count = this.compact()
    if (count * BigInt(Math.max(1, least)) > BigInt(this.remaining))
      throw new ChoraleError('ledger', `SCALE: ${count} elements announced, ${this.remaining} bytes left`)
    return Number(count)
  }

  /** Runs `read` one level deeper. */
  nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH)
      throw new ChoraleError('ledger', `SCALE: nested deeper than ${MAX_DEPTH} levels`)
    const value = read()
    this.#depth--
    return value
  }

  /** @throws `ledger` when bytes are left over. */
  end(what: string): void {
    if (this.remaining > 0) throw new ChoraleError('ledger', `SCALE: ${this.remaining} bytes after ${what}`)
  }
}

/** Grows as SCALE primitives are written to it. Ranges are the caller's to check. */
export class ScaleWriter {
  #bytes = new Uint8Array(64)
  #view = new DataView(this.#bytes.buffer)
  #length = 0

  #room(count: number): number {
    const start = this.#length
    this.#length += count
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
      this.#view = new DataView(larger.buffer)
    }
    return start
  }

  bytes(value: Uint8Array): void {
    const start = this.#room(value.length)
    this.#bytes.set(value, start)
  }

  small(value: number, size: 1 | 2 | 4): void {
    const start = this.#room(size)
    if (size === 1) this.#view.setUint8(start, value)
    else if (size === 2) this.#view.setUint16(start, value, true)
    else this.#view.setUint32(start, value, true)
  }

  /** Two's complement for negative values. */
  big(value: bigint, size: 8 | 16 | 32): void {
    const start = this.#room(size)
    for (let at = 0; at < size; at += 8)
      this.#view.setBigUint64(start + at, BigInt.asUintN(64, value >> BigInt(8 * at)), true)
  }

  compact(value: bigint | number): void {
    const big = BigInt(value)
    if (big < 1n << 6n) return this.small(Number(big) << 2, 1)
    if (big < 1n << 14n) return this.small((Number(big) << 2) | 1, 2)
    if (big < 1n << 30n) return this.small(Number(big) * 4 + 2, 4)
    let size = 4
    while (big >> BigInt(8 * size) > 0n) size++
    this.small(((size - 4) << 2) | 3, 1)
    for (let at = 0; at < size; at++) this.small(Number((big >> BigInt(8 * at)) & 0xffn), 1)
  }

  /** A copy of what was written; the writer is empty again. */
  finish(): Uint8Array {
    const written = this.#bytes.slice(0, this.#length)
    this.#length = 0
    return written
  }

  /** Forgets what was written. */
  clear(): void {
    this.#length = 0
  }
}
