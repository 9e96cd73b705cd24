import { isAllowed, OP } from './opcodes.ts'
import {
  byte,
  type Cursor,
  hex,
  I32,
  I64,
  limit,
  limited,
  refused,
  signed,
  unsigned,
  valueType,
} from './wasm-cursor.ts'

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

/** Parameters and results by value type. */
export interface FunctionType {
  readonly parameters: readonly number[]
  readonly results: readonly number[]
}

/** Locals of a function, each of which costs gas with every call. */
const MAX_LOCALS = 256
/** Blocks inside of each other: with the depth of calls it bounds the labels that a run keeps. */
const MAX_NESTING = 128

/**
 * Reads the code of a function of `type`, flat. Indices and types are NOT checked here.
 * @throws `ledger` for instructions that are not allowed and blocks that do not end.
 */
export function readFunction(section: Cursor, type: FunctionType): PolicyFunction {
  const size = unsigned(section)
  const cursor: Cursor = { bytes: section.bytes, at: section.at, end: section.at + size }
  if (cursor.end > section.end) throw refused('a function is cut')
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
      throw refused(`instruction ${hex(op)} is not allowed (floats, tables and later proposals are not)`)
    ops.push(op)
    a.push(0)
    b.push(0)
    if (op === OP.block || op === OP.loop || op === OP.if) {
      const kind = byte(cursor)
      if (kind !== 0x40 && kind !== I32 && kind !== I64) throw refused(`block of type ${hex(kind)}`)
      b[slot] = kind === 0x40 ? 0 : 1
      open.push(slot)
      limit('nested blocks', open.length, MAX_NESTING)
    } else if (op === OP.else) {
      const start = open.at(-1)
      if (start === undefined || ops[start] !== OP.if) throw refused('else without if')
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
  if (cursor.at !== cursor.end || open.length > 0) throw refused('a function whose blocks do not end')
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
