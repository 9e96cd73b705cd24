import { ChoraleError } from '../../errors.ts'
import { isAllowed, OP } from './opcodes.ts'

/**
 * Reads a policy program: WebAssembly 1.0 without floats, imports, tables or any later proposal but sign
 * extension. What remains computes the same on every machine.
 *
 * The host's own `WebAssembly.validate` checks types; this walk checks what is allowed and makes flat code of it.
 */

/** A function as flat code: one slot an instruction. */
export interface PolicyFunction {
  readonly parameters: number
  readonly results: number
  /** Values that its locals beyond the parameters begin with: 0 or 0n by type. */
  readonly locals: readonly (number | bigint)[]
  readonly ops: Uint8Array
  /** First immediate: label depth, index, offset, 32-bit constant; for block, loop, if, else: the slot of its `end`. */
  readonly a: Int32Array
  /** Second immediate: results of a block; for `if` ×2 + results the slot after `else` (0: none). */
  readonly b: Int32Array
  /** 64-bit constants and branch tables, by slot. */
  readonly wide: ReadonlyMap<number, bigint>
  readonly tables: ReadonlyMap<number, Int32Array>
}

export interface PolicyModule {
  readonly functions: readonly PolicyFunction[]
  readonly globals: readonly (number | bigint)[]
  /** Exported functions by name. */
  readonly exports: ReadonlyMap<string, number>
  /** Called once before anything else, under the same gas. */
  readonly start: number | undefined
  readonly minPages: number
  readonly maxPages: number
  readonly data: readonly { readonly offset: number; readonly bytes: Uint8Array }[]
}

/** It is fetched and walked by every validator. */
export const MAX_POLICY_BYTES = 65_536
const MAX_FUNCTIONS = 512
const MAX_TYPES = 256
const MAX_LOCALS = 256
const MAX_GLOBALS = 256
const MAX_NESTING = 128
const I32 = 0x7f
const I64 = 0x7e

interface FunctionType {
  readonly parameters: readonly number[]
  readonly results: readonly number[]
}

interface Cursor {
  readonly bytes: Uint8Array
  at: number
  readonly end: number
}

/** @throws `ledger` for whatever is no such program; the message says what was found. */
export function readPolicyModule(bytes: Uint8Array): PolicyModule {
  if (bytes.length > MAX_POLICY_BYTES) {
    throw bad(`a policy program has at most ${MAX_POLICY_BYTES} bytes, got ${bytes.length}`)
  }
  if (![0, 0x61, 0x73, 0x6d, 1, 0, 0, 0].every((value, i) => bytes[i] === value)) {
    throw bad('not WebAssembly version 1')
  }
  const types: FunctionType[] = []
  const declared: number[] = []
  const functions: PolicyFunction[] = []
  const globals: (number | bigint)[] = []
  const exports = new Map<string, number>()
  const data: { offset: number; bytes: Uint8Array }[] = []
  let start: number | undefined
  let memory: { min: number; max: number } | undefined
  const cursor: Cursor = { bytes, at: 8, end: bytes.length }
  while (cursor.at < cursor.end) {
    const id = byte(cursor)
    const length = unsigned(cursor)
    const section: Cursor = { bytes, at: cursor.at, end: cursor.at + length }
    if (section.end > cursor.end) throw bad('a section is cut')
    cursor.at = section.end
    if (id === 0) continue
    const count = unsigned(section)
    switch (id) {
      case 1:
        limit('types', count, MAX_TYPES)
        for (let i = 0; i < count; i++) types.push(readType(section))
        break
      case 2:
        if (count > 0) throw bad('it imports something; a policy sees its input and nothing else')
        break
      case 3:
        limit('functions', count, MAX_FUNCTIONS)
        for (let i = 0; i < count; i++) declared.push(unsigned(section))
        break
      case 5:
        if (count !== 1) throw bad(`${count} memories`)
        memory = readLimits(section)
        break
      case 6:
        limit('globals', count, MAX_GLOBALS)
        for (let i = 0; i < count; i++) globals.push(readGlobal(section))
        break
      case 7:
        for (let i = 0; i < count; i++) {
          const name = text(section)
          const kind = byte(section)
          const index = unsigned(section)
          if (kind === 0) exports.set(name, index)
        }
        break
      case 8:
        start = count
        break
      case 10:
        if (count !== declared.length) throw bad('functions and code differ in number')
        for (let i = 0; i < count; i++) {
          const type = types[declared[i]!]
          if (type === undefined) throw bad(`function ${i} has no type`)
          functions.push(readFunction(section, type))
        }
        break
      case 11:
        for (let i = 0; i < count; i++) data.push(readData(section))
        break
      default:
        throw bad(`section ${id} (${SECTIONS[id] ?? 'unknown'}) is not allowed`)
    }
    if (section.at !== section.end) throw bad(`section ${id} holds more than it says`)
  }
  if (memory === undefined) throw bad('it has no memory')
  const called = functions.flatMap(({ ops, a }) => [...a].filter((_, i) => ops[i] === OP.call))
  if ([start ?? 0, ...exports.values(), ...called].some((index) => index >= functions.length)) {
    throw bad('it calls a function that is not there')
  }
  // Types, stack heights and indices: every host decides alike about what is left of the language here.
  if (!WebAssembly.validate(bytes.slice())) throw bad('it is no valid WebAssembly')
  return { functions, globals, exports, start, minPages: memory.min, maxPages: memory.max, data }
}

const SECTIONS: Readonly<Record<number, string>> = {
  4: 'tables',
  8: 'start',
  9: 'elements',
  12: 'data count',
}

function readType(cursor: Cursor): FunctionType {
  if (byte(cursor) !== 0x60) throw bad('a type that is no function')
  const parameters = Array.from({ length: limited(cursor, 'parameters', 64) }, () => valueType(cursor))
  const results = Array.from({ length: limited(cursor, 'results', 1) }, () => valueType(cursor))
  return { parameters, results }
}

function readLimits(cursor: Cursor): { min: number; max: number } {
  const flags = byte(cursor)
  if (flags > 1) throw bad(`memory with flags ${flags}: shared and 64-bit memories are not allowed`)
  const min = unsigned(cursor)
  return { min, max: flags === 1 ? unsigned(cursor) : 65_536 }
}

function readGlobal(cursor: Cursor): number | bigint {
  const type = valueType(cursor)
  byte(cursor)
  const value = constant(cursor)
  if ((typeof value === 'bigint') !== (type === I64)) throw bad('a global of another type than its value')
  return value
}

function readData(cursor: Cursor): { offset: number; bytes: Uint8Array } {
  if (unsigned(cursor) !== 0) throw bad('passive data is not allowed')
  const offset = constant(cursor)
  if (typeof offset === 'bigint') throw bad('data at a 64-bit offset')
  const length = unsigned(cursor)
  return { offset: offset >>> 0, bytes: take(cursor, length) }
}

function constant(cursor: Cursor): number | bigint {
  const op = byte(cursor)
  if (op !== OP.i32Const && op !== OP.i64Const) throw bad(`a constant made by instruction ${hex(op)}`)
  const value = op === OP.i32Const ? Number(signed(cursor, 32)) : signed(cursor, 64)
  if (byte(cursor) !== OP.end) throw bad('a constant made by several instructions')
  return value
}

function readFunction(section: Cursor, type: FunctionType): PolicyFunction {
  const size = unsigned(section)
  const cursor: Cursor = { bytes: section.bytes, at: section.at, end: section.at + size }
  if (cursor.end > section.end) throw bad('a function is cut')
  section.at = cursor.end
  const locals: (number | bigint)[] = []
  for (let group = limited(cursor, 'groups of locals', MAX_LOCALS); group > 0; group--) {
    const count = unsigned(cursor)
    limit('locals', locals.length + count, MAX_LOCALS)
    const zero = valueType(cursor) === I64 ? 0n : 0
    for (let i = 0; i < count; i++) locals.push(zero)
  }
  const ops: number[] = []
  const a: number[] = []
  const b: number[] = []
  const wide = new Map<number, bigint>()
  const tables = new Map<number, Int32Array>()
  /** Slots of the blocks that are open. */
  const open: number[] = []
  while (cursor.at < cursor.end) {
    const slot = ops.length
    const op = byte(cursor)
    if (!isAllowed(op))
      throw bad(`instruction ${hex(op)} is not allowed (floats, tables and later proposals are not)`)
    ops.push(op)
    a.push(0)
    b.push(0)
    if (op === OP.block || op === OP.loop || op === OP.if) {
      const kind = byte(cursor)
      if (kind !== 0x40 && kind !== I32 && kind !== I64) throw bad(`block of type ${hex(kind)}`)
      b[slot] = kind === 0x40 ? 0 : 1
      open.push(slot)
      limit('nested blocks', open.length, MAX_NESTING)
    } else if (op === OP.else) {
      const start = open.at(-1)
      if (start === undefined || ops[start] !== OP.if) throw bad('else without if')
      b[start] = (slot + 1) * 2 + (b[start]! & 1)
    } else if (op === OP.end) {
      const start = open.pop()
      if (start === undefined) break
      closeBlock(ops, a, b, start, slot)
    } else if (op === OP.brTable) {
      const count = limited(cursor, 'branches', 1024)
      tables.set(
        slot,
        Int32Array.from({ length: count + 1 }, () => unsigned(cursor)),
      )
    } else if (op === OP.i32Const) a[slot] = Number(signed(cursor, 32))
    else if (op === OP.i64Const) wide.set(slot, signed(cursor, 64))
    else if (op >= OP.i32Load && op <= OP.i64Store32) {
      unsigned(cursor)
      a[slot] = unsigned(cursor) | 0
    } else if (op === OP.memorySize || op === OP.memoryGrow) byte(cursor)
    else if (op === OP.br || op === OP.brIf || op === OP.call || (op >= OP.localGet && op <= OP.globalSet)) {
      a[slot] = unsigned(cursor)
    }
  }
  if (cursor.at !== cursor.end || open.length > 0) throw bad('a function whose blocks do not end')
  return {
    parameters: type.parameters.length,
    results: type.results.length,
    locals,
    ops: Uint8Array.from(ops),
    a: Int32Array.from(a),
    b: Int32Array.from(b),
    wide,
    tables,
  }
}

/** Tells a block where it ends, and so its `else`. An `if` keeps its results and the slot after `else` in one number. */
function closeBlock(ops: number[], a: number[], b: number[], start: number, end: number): void {
  a[start] = end
  if (ops[start] !== OP.if) return
  const afterElse = b[start]! >> 1
  if (afterElse > 0) a[afterElse - 1] = end
}

function valueType(cursor: Cursor): number {
  const type = byte(cursor)
  if (type !== I32 && type !== I64) throw bad(`a value of type ${hex(type)}: only i32 and i64 are allowed`)
  return type
}

function byte(cursor: Cursor): number {
  if (cursor.at >= cursor.end) throw bad('it is cut')
  return cursor.bytes[cursor.at++]!
}

function take(cursor: Cursor, length: number): Uint8Array {
  if (length > cursor.end - cursor.at) throw bad('it is cut')
  cursor.at += length
  return cursor.bytes.slice(cursor.at - length, cursor.at)
}

function text(cursor: Cursor): string {
  const length = limited(cursor, 'characters of a name', 256)
  return new TextDecoder().decode(take(cursor, length))
}

function unsigned(cursor: Cursor): number {
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const next = byte(cursor)
    value += (next & 127) * 2 ** shift
    if (next < 128) {
      if (value > 0xffff_ffff) break
      return value
    }
  }
  throw bad('an integer of more than 32 bits')
}

function signed(cursor: Cursor, bits: 32 | 64): bigint {
  let value = 0n
  let shift = 0n
  for (;;) {
    const next = byte(cursor)
    value |= BigInt(next & 127) << shift
    shift += 7n
    if (next < 128) return BigInt.asIntN(bits, (next & 64) !== 0 ? value - (1n << shift) : value)
    if (shift > bits) throw bad(`an integer of more than ${bits} bits`)
  }
}

function limited(cursor: Cursor, what: string, max: number): number {
  const count = unsigned(cursor)
  limit(what, count, max)
  return count
}

function limit(what: string, count: number, max: number): void {
  if (count > max) throw bad(`${count} ${what} (at most ${max})`)
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`
}

function bad(reason: string): ChoraleError {
  return new ChoraleError('ledger', `policy program refused: ${reason}`, { field: 'policy' })
}
