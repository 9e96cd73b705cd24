import { ChoraleError } from '../../errors.ts'

/** Reads the numbers, names and types of a WebAssembly binary; whatever is cut or too large is refused by name. */

/** A part of a file that is being read: a section, a function. */
export interface Cursor {
  readonly bytes: Uint8Array
  at: number
  readonly end: number
}

/** Value types of the binary format. */
export const I32 = 0x7f
/** See `I32`. */
export const I64 = 0x7e

/** A value type: I32 or I64. @throws `ledger` for floats, vectors and references. */
export function valueType(cursor: Cursor): number {
  const type = byte(cursor)
  if (type !== I32 && type !== I64)
    throw refused(`a value of type ${hex(type)}: only i32 and i64 are allowed`)
  return type
}

/** The next byte. @throws `ledger` at the end. */
export function byte(cursor: Cursor): number {
  if (cursor.at >= cursor.end) throw refused('it is cut')
  return cursor.bytes[cursor.at++]!
}

/** A copy of the next `length` bytes. @throws `ledger` when there are fewer. */
export function take(cursor: Cursor, length: number): Uint8Array {
  if (length > cursor.end - cursor.at) throw refused('it is cut')
  cursor.at += length
  return cursor.bytes.slice(cursor.at - length, cursor.at)
}

/** A name: its length and UTF-8, at most 256 bytes. @throws `ledger` */
export function text(cursor: Cursor): string {
  const length = limited(cursor, 'characters of a name', 256)
  return new TextDecoder().decode(take(cursor, length))
}

/** An unsigned LEB128 integer of at most 32 bits. @throws `ledger` */
export function unsigned(cursor: Cursor): number {
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const next = byte(cursor)
    value += (next & 127) * 2 ** shift
    if (next < 128) {
      if (value > 0xffff_ffff) break
      return value
    }
  }
  throw refused('an integer of more than 32 bits')
}

/** A signed LEB128 integer of 32 or 64 bits. @throws `ledger` */
export function signed(cursor: Cursor, bits: 32 | 64): bigint {
  let value = 0n
  let shift = 0n
  for (;;) {
    const next = byte(cursor)
    value |= BigInt(next & 127) << shift
    shift += 7n
    if (next < 128) return BigInt.asIntN(bits, (next & 64) !== 0 ? value - (1n << shift) : value)
    if (shift > bits) throw refused(`an integer of more than ${bits} bits`)
  }
}

/** A count of `what`, at most `max`. @throws `ledger` */
export function limited(cursor: Cursor, what: string, max: number): number {
  const count = unsigned(cursor)
  limit(what, count, max)
  return count
}

/** @throws `ledger` when `count` is more than `max`. */
export function limit(what: string, count: number, max: number): void {
  if (count > max) throw refused(`${count} ${what} (at most ${max})`)
}

/** A byte as the specification writes it. */
export function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`
}

/** Why a program is refused. */
export function refused(reason: string): ChoraleError {
  return new ChoraleError('ledger', `policy program refused: ${reason}`, { field: 'policy' })
}
