import { ChoraleError } from '../../errors.ts'

const PAGE_BYTES = 65536
/** All that 32-bit addresses reach. */
const MAX_PAGES = 65536
/** Address 0 stays unused: records use it for "none"; the kernels' constants are at 64. */
const FIRST_ADDRESS = 1024
/** Vectors are 16 bytes; a cache line of its own keeps threads out of each other's way. */
const ALIGNMENT = 64

interface Gap {
  address: number
  bytes: number
}

/**
 * One WebAssembly memory shared by threads, and who has which part of it. Memory grows when asked for and never
 * shrinks; what was freed is given out again.
 *
 * Views go stale when the memory grows: make them anew for each use.
 */
export interface LinearMemory {
  readonly memory: WebAssembly.Memory
  /** Address of `bytes` bytes, 64-byte aligned, contents undefined. @throws `capacity` when 4 GiB do not hold them. */
  allocate(bytes: number, what: string): number
  /** Gives back what `allocate` returned. */
  free(address: number): void
  /** Bytes that could still be had, in one piece. */
  readonly available: number
  bytes(address: number, length: number): Uint8Array
  floats(address: number, length: number): Float32Array
  integers(address: number, length: number): Int32Array
}

/** @throws `engine` when the machine refuses to reserve a shared memory. */
export function createLinearMemory(): LinearMemory {
  let memory: WebAssembly.Memory
  try {
    memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true })
  } catch (cause) {
    throw new ChoraleError('engine', 'engine wasm: no shared WebAssembly memory can be reserved here', {
      cause,
    })
  }
  let end = FIRST_ADDRESS
  /** Free parts below `end`, by address; neighbours are joined. */
  const gaps: Gap[] = []
  const taken = new Map<number, number>()

  function reserve(until: number, what: string, wanted: number): void {
    const missing = Math.ceil(until / PAGE_BYTES) - memory.buffer.byteLength / PAGE_BYTES
    if (missing <= 0) return
    try {
      if (until > MAX_PAGES * PAGE_BYTES) throw new RangeError('beyond 4 GiB')
      memory.grow(missing)
    } catch (cause) {
      throw new ChoraleError(
        'capacity',
        `engine wasm: no room for ${mib(wanted)} MiB of ${what}: ${mib(end)} MiB of the 4096 MiB that WebAssembly reaches are in use; load fewer blocks or ask for fewer KV tokens`,
        { cause },
      )
    }
  }

  function release(gap: Gap): void {
    const index = gaps.findIndex((other) => other.address > gap.address)
    gaps.splice(index < 0 ? gaps.length : index, 0, gap)
    for (let i = gaps.length - 1; i > 0; i--) {
      const low = gaps[i - 1] as Gap
      const high = gaps[i] as Gap
      if (low.address + low.bytes !== high.address) continue
      low.bytes += high.bytes
      gaps.splice(i, 1)
    }
    const last = gaps.at(-1)
    if (last !== undefined && last.address + last.bytes === end) {
      end = last.address
      gaps.pop()
    }
  }

  return {
    memory,
    get available() {
      const largest = gaps.reduce((most, gap) => Math.max(most, gap.bytes), 0)
      return Math.max(largest, MAX_PAGES * PAGE_BYTES - end)
    },
    allocate(bytes, what) {
      const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT)
      const gap = gaps.find((candidate) => candidate.bytes >= size)
      let address = end
      if (gap === undefined) {
        reserve(end + size, what, bytes)
        end += size
      } else {
        address = gap.address
        gap.address += size
        gap.bytes -= size
        if (gap.bytes === 0) gaps.splice(gaps.indexOf(gap), 1)
      }
      taken.set(address, size)
      return address
    },
    free(address) {
      const bytes = taken.get(address)
      if (bytes === undefined) throw new ChoraleError('internal', `address ${address} was not allocated`)
      taken.delete(address)
      release({ address, bytes })
    },
    bytes: (address, length) => new Uint8Array(memory.buffer, address, length),
    floats: (address, length) => new Float32Array(memory.buffer, address, length),
    integers: (address, length) => new Int32Array(memory.buffer, address, length),
  }
}

/** A part of a memory that is freed as a whole. */
export interface Arena {
  allocate(bytes: number, what: string): number
  close(): void
}

export function createArena(memory: LinearMemory): Arena {
  const addresses: number[] = []
  return {
    allocate(bytes, what) {
      const address = memory.allocate(bytes, what)
      addresses.push(address)
      return address
    },
    close() {
      for (const address of addresses.splice(0)) memory.free(address)
    },
  }
}

function mib(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
