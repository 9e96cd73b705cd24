import { type FunctionType, type PolicyFunction, readFunction } from './function-code.ts'
import { OP } from './opcodes.ts'
import {
  byte,
  type Cursor,
  hex,
  I64,
  limit,
  limited,
  refused,
  signed,
  take,
  text,
  unsigned,
  valueType,
} from './wasm-cursor.ts'

/**
 * Reads a policy program: WebAssembly 1.0 without floats, imports, tables or any later proposal but sign
 * extension. What remains computes the same on every machine.
 *
 * The host's own `WebAssembly.validate` checks types; this walk checks what is allowed and makes flat code of it.
 */

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
const MAX_GLOBALS = 256

/** @throws `ledger` for whatever is no such program; the message says what was found. */
export function readPolicyModule(bytes: Uint8Array): PolicyModule {
  if (bytes.length > MAX_POLICY_BYTES) {
    throw refused(`a policy program has at most ${MAX_POLICY_BYTES} bytes, got ${bytes.length}`)
  }
  if (![0, 0x61, 0x73, 0x6d, 1, 0, 0, 0].every((value, i) => bytes[i] === value)) {
    throw refused('not WebAssembly version 1')
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
    if (section.end > cursor.end) throw refused('a section is cut')
    cursor.at = section.end
    if (id === 0) continue
    const count = unsigned(section)
    switch (id) {
      case 1:
        limit('types', count, MAX_TYPES)
        for (let i = 0; i < count; i++) types.push(readType(section))
        break
      case 2:
        if (count > 0) throw refused('it imports something; a policy sees its input and nothing else')
        break
      case 3:
        limit('functions', count, MAX_FUNCTIONS)
        for (let i = 0; i < count; i++) declared.push(unsigned(section))
        break
      case 5:
        if (count !== 1) throw refused(`${count} memories`)
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
        if (count !== declared.length) throw refused('functions and code differ in number')
        for (let i = 0; i < count; i++) {
          const type = types[declared[i]!]
          if (type === undefined) throw refused(`function ${i} has no type`)
          functions.push(readFunction(section, type))
        }
        break
      case 11:
        for (let i = 0; i < count; i++) data.push(readData(section))
        break
      default:
        throw refused(`section ${id} (${SECTIONS[id] ?? 'unknown'}) is not allowed`)
    }
    if (section.at !== section.end) throw refused(`section ${id} holds more than it says`)
  }
  if (memory === undefined) throw refused('it has no memory')
  const called = functions.flatMap(({ ops, a }) => [...a].filter((_, i) => ops[i] === OP.call))
  if ([start ?? 0, ...exports.values(), ...called].some((index) => index >= functions.length)) {
    throw refused('it calls a function that is not there')
  }
  // Types, stack heights and indices: every host decides alike about what is left of the language here.
  if (!WebAssembly.validate(bytes.slice())) throw refused('it is no valid WebAssembly')
  return { functions, globals, exports, start, minPages: memory.min, maxPages: memory.max, data }
}

const SECTIONS: Readonly<Record<number, string>> = {
  4: 'tables',
  8: 'start',
  9: 'elements',
  12: 'data count',
}

function readType(cursor: Cursor): FunctionType {
  if (byte(cursor) !== 0x60) throw refused('a type that is no function')
  const parameters = Array.from({ length: limited(cursor, 'parameters', 64) }, () => valueType(cursor))
  const results = Array.from({ length: limited(cursor, 'results', 1) }, () => valueType(cursor))
  return { parameters, results }
}

function readLimits(cursor: Cursor): { min: number; max: number } {
  const flags = byte(cursor)
  if (flags > 1) throw refused(`memory with flags ${flags}: shared and 64-bit memories are not allowed`)
  const min = unsigned(cursor)
  return { min, max: flags === 1 ? unsigned(cursor) : 65_536 }
}

function readGlobal(cursor: Cursor): number | bigint {
  const type = valueType(cursor)
  byte(cursor)
  const value = constant(cursor)
  if ((typeof value === 'bigint') !== (type === I64)) throw refused('a global of another type than its value')
  return value
}

function readData(cursor: Cursor): { offset: number; bytes: Uint8Array } {
  if (unsigned(cursor) !== 0) throw refused('passive data is not allowed')
  const offset = constant(cursor)
  if (typeof offset === 'bigint') throw refused('data at a 64-bit offset')
  const length = unsigned(cursor)
  return { offset: offset >>> 0, bytes: take(cursor, length) }
}

function constant(cursor: Cursor): number | bigint {
  const op = byte(cursor)
  if (op !== OP.i32Const && op !== OP.i64Const) throw refused(`a constant made by instruction ${hex(op)}`)
  const value = op === OP.i32Const ? Number(signed(cursor, 32)) : signed(cursor, 64)
  if (byte(cursor) !== OP.end) throw refused('a constant made by several instructions')
  return value
}
