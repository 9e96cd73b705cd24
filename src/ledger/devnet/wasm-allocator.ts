import { ChoraleError } from '../../errors.ts'

/**
 * Memory of a running runtime, as Substrate's freeing-bump allocator hands it out: sizes are powers of two, freed blocks
 * are kept by size and given again, the rest is cut from the end. Each block has a header of 8 bytes before it.
 */

const HEADER_BYTES = 8
const MIN_BYTES = 8
/** Largest single allocation, as in Substrate; a length gone wrong does not take all memory. */
const MAX_BYTES = 32 * 2 ** 20
const PAGE_BYTES = 65_536
/** What a header says of a block in use: this and its order. */
const IN_USE = 0x4352_0000

/** Hands out blocks of one wasm memory from `heapBase` on. */
export class WasmAllocator {
  readonly #memory: WebAssembly.Memory
  readonly #heapBase: number
  readonly #maxPages: number
  readonly #free: number[][] = []
  #end: number

  constructor(memory: WebAssembly.Memory, heapBase: number, maxPages: number) {
    this.#memory = memory
    this.#heapBase = (heapBase + HEADER_BYTES - 1) & ~(HEADER_BYTES - 1)
    this.#maxPages = maxPages
    this.#end = this.#heapBase
  }

  /** Forgets every block. */
  reset(): void {
    this.#free.length = 0
    this.#end = this.#heapBase
  }

  /** Address of `size` bytes, not zeroed. @throws `limit` when the block or the memory would be too large. */
  allocate(size: number): number {
    if (size > MAX_BYTES) {
      throw new ChoraleError('limit', `the runtime asks for ${size} bytes at once, the limit is ${MAX_BYTES}`)
    }
    const order = size <= MIN_BYTES ? 0 : 32 - Math.clz32((size - 1) >>> 3)
    const start = this.#free[order]?.pop() ?? this.#bump(MIN_BYTES << order)
    new DataView(this.#memory.buffer).setUint32(start, IN_USE | order, true)
    return start + HEADER_BYTES
  }

  /** Takes a block back. @throws `ledger` when there is none in use at this address. */
  free(address: number): void {
    const start = address - HEADER_BYTES
    const known = start >= this.#heapBase && start < this.#end
    const view = new DataView(this.#memory.buffer)
    const header = known ? view.getUint32(start, true) : 0
    const order = header & 0xffff
    if ((header & 0xffff_0000) !== IN_USE || MIN_BYTES << order > MAX_BYTES) {
      throw new ChoraleError('ledger', `the runtime frees address ${address}, which is not in use`)
    }
    view.setUint32(start, 0, true)
    ;(this.#free[order] ??= []).push(start)
  }

  #bump(size: number): number {
    const start = this.#end
    const end = start + HEADER_BYTES + size
    const held = this.#memory.buffer.byteLength
    if (end > held) {
      const pages = Math.ceil(end / PAGE_BYTES)
      if (pages > this.#maxPages) {
        throw new ChoraleError(
          'limit',
          `the runtime needs more than ${(this.#maxPages * PAGE_BYTES) / 2 ** 20} MiB of memory`,
        )
      }
      // Doubling keeps the number of copies low.
      this.#memory.grow(
        Math.min(this.#maxPages, Math.max(pages, 2 * (held / PAGE_BYTES))) - held / PAGE_BYTES,
      )
    }
    this.#end = end
    return start
  }
}
