import { ChoraleError } from '../errors.ts'
import type { CborMap } from './cbor.ts'

/** Reads one field of a decoded header, or refuses it by name. Unknown fields are never looked at. */

/** An integer in [0, max]. @throws `protocol`. */
export function uintField(map: CborMap, name: string, max: number): number {
  const value = map[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max) {
    throw bad(name, `an integer from 0 to ${max}`, value)
  }
  return value
}

/** A finite number in [0, max]. @throws `protocol`. */
export function amountField(map: CborMap, name: string, max: number): number {
  const value = map[name]
  if (typeof value !== 'number' || !(value >= 0 && value <= max)) {
    throw bad(name, `a number from 0 to ${max}`, value)
  }
  return value
}

/** Text of 1 to `max` characters without control characters. @throws `protocol`. */
export function textField(map: CborMap, name: string, max: number): string {
  return checkText(map[name], name, max)
}

/** Text that may be empty and hold anything; cut to `max` characters and cleaned of control characters. */
export function messageField(map: CborMap, name: string, max: number): string {
  const value = map[name]
  if (typeof value !== 'string') throw bad(name, 'text', value)
  return value.slice(0, max).replaceAll(CONTROL_CHARACTERS, ' ')
}

/** One of `values`. @throws `protocol`. */
export function choiceField<T extends string>(map: CborMap, name: string, values: readonly T[]): T {
  const value = map[name]
  const found = values.find((candidate) => candidate === value)
  if (found === undefined) throw bad(name, `one of ${values.join(', ')}`, value)
  return found
}

/** @throws `protocol`. */
export function booleanField(map: CborMap, name: string): boolean {
  const value = map[name]
  if (typeof value !== 'boolean') throw bad(name, 'true or false', value)
  return value
}

/** Bytes of min to max length. @throws `protocol`. */
export function bytesField(map: CborMap, name: string, min: number, max: number): Uint8Array {
  const value = map[name]
  if (!(value instanceof Uint8Array) || value.length < min || value.length > max) {
    throw bad(name, min === max ? `${min} bytes` : `${min} to ${max} bytes`, value)
  }
  return value
}

/** A list of at most `maxCount` texts of at most `maxLength` characters each. @throws `protocol`. */
export function textListField(map: CborMap, name: string, maxCount: number, maxLength: number): string[] {
  const value = map[name]
  if (!Array.isArray(value) || value.length > maxCount) {
    throw bad(name, `a list of at most ${maxCount} texts`, value)
  }
  return value.map((entry) => checkText(entry, name, maxLength))
}

/** C0 and C1 controls: they could redraw the terminal of whoever reads the text. */
const CONTROL_CHARACTERS = /\p{Cc}/gu

function checkText(value: unknown, name: string, max: number): string {
  if (
    typeof value !== 'string' ||
    value.length === 0 ||
    value.length > max ||
    value.search(CONTROL_CHARACTERS) >= 0
  ) {
    throw bad(name, `text of 1 to ${max} printable characters`, value)
  }
  return value
}

function bad(name: string, wanted: string, value: unknown): ChoraleError {
  return new ChoraleError('protocol', `field ${name} must be ${wanted}, got ${show(value)}`, { field: name })
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40))
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value === undefined) return 'nothing'
  if (value instanceof Uint8Array) return `${value.length} bytes`
  return Array.isArray(value) ? `a list of ${value.length}` : 'something else'
}
