import { Trap } from './arithmetic.ts'
import { OP } from './opcodes.ts'
import type { Value } from './call-stack.ts'

/** The memory of an instance: little-endian, in pages of 64 KiB. */

export const PAGE_BYTES = 65_536

interface Load {
  readonly bytes: number
  readonly read: (view: DataView, at: number) => Value
}

interface Store {
  readonly bytes: number
  readonly write: (view: DataView, at: number, value: Value) => void
}

const low32 = (value: Value): number => (typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : value)
const store8: Store = { bytes: 1, write: (view, at, value) => view.setInt8(at, low32(value)) }
const store16: Store = { bytes: 2, write: (view, at, value) => view.setInt16(at, low32(value), true) }
const store32: Store = { bytes: 4, write: (view, at, value) => view.setInt32(at, low32(value), true) }

/** Instructions that read memory. */
const LOADS: Readonly<Record<number, Load>> = {
  [OP.i32Load]: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  [OP.i64Load]: { bytes: 8, read: (view, at) => view.getBigInt64(at, true) },
  [OP.i32Load8S]: { bytes: 1, read: (view, at) => view.getInt8(at) },
  [OP.i32Load8U]: { bytes: 1, read: (view, at) => view.getUint8(at) },
  [OP.i32Load16S]: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  [OP.i32Load16U]: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
  [OP.i64Load8S]: { bytes: 1, read: (view, at) => BigInt(view.getInt8(at)) },
  [OP.i64Load8U]: { bytes: 1, read: (view, at) => BigInt(view.getUint8(at)) },
  [OP.i64Load16S]: { bytes: 2, read: (view, at) => BigInt(view.getInt16(at, true)) },
  [OP.i64Load16U]: { bytes: 2, read: (view, at) => BigInt(view.getUint16(at, true)) },
  [OP.i64Load32S]: { bytes: 4, read: (view, at) => BigInt(view.getInt32(at, true)) },
  [OP.i64Load32U]: { bytes: 4, read: (view, at) => BigInt(view.getUint32(at, true)) },
}

/** Instructions that write memory. */
const STORES: Readonly<Record<number, Store>> = {
  [OP.i32Store]: store32,
  [OP.i64Store]: { bytes: 8, write: (view, at, value) => view.setBigInt64(at, value as bigint, true) },
  [OP.i32Store8]: store8,
  [OP.i32Store16]: store16,
  [OP.i64Store8]: store8,
  [OP.i64Store16]: store16,
  [OP.i64Store32]: store32,
}

/** Has room for all pages it may grow to from the beginning; what is not grown yet can't be reached. */
export class LinearMemory {
  pages: number
  readonly maxPages: number
  readonly #view: DataView
  readonly #bytes: Uint8Array

  constructor(pages: number, maxPages: number) {
    this.pages = pages
    this.maxPages = maxPages
    this.#view = new DataView(new ArrayBuffer(maxPages * PAGE_BYTES))
    this.#bytes = new Uint8Array(this.#view.buffer)
  }

  /** A copy of `length` bytes. @throws Trap outside of memory. */
  read(offset: number, length: number): Uint8Array {
    const at = this.#inside(offset, length)
    return this.#bytes.slice(at, at + length)
  }

  /** @throws Trap outside of memory. */
  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#inside(offset, bytes.length))
  }

  /** What the load instruction `op` finds at `base` (unsigned) + `offset`. @throws Trap outside of memory. */
  load(op: number, base: number, offset: number): Value {
    const { bytes, read } = LOADS[op]!
    return read(this.#view, this.#inside(base + offset, bytes))
  }

  /** Does the store instruction `op` at `base` (unsigned) + `offset`. @throws Trap outside of memory. */
  store(op: number, base: number, offset: number, value: Value): void {
    const { bytes, write } = STORES[op]!
    write(this.#view, this.#inside(base + offset, bytes), value)
  }

  #inside(offset: number, length: number): number {
    const end = this.pages * PAGE_BYTES
    if (offset + length > end) throw new Trap(`memory access at ${offset} of ${end}`)
    return offset
  }
}
