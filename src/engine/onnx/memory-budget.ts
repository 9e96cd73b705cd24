import { ChoraleError } from '../../errors.ts'

/** Counts what is promised to spans and heads, so that a model that can't fit is refused before it is read. */
export interface MemoryBudget {
  /** @throws `capacity` when `bytes` more would pass what WebAssembly can address; `what` goes into the message. */
  reserve(bytes: number, what: string): void
  release(bytes: number): void
}

/** WebAssembly addresses 4 GiB; 256 MiB are left for code, activations and weights being read. */
const LIMIT_BYTES = 4 * 2 ** 30 - 256 * 2 ** 20

/** The budget of one WebAssembly memory. */
export function createMemoryBudget(): MemoryBudget {
  let reserved = 0
  return {
    reserve(bytes, what) {
      const left = LIMIT_BYTES - reserved
      if (bytes > left) {
        throw new ChoraleError(
          'capacity',
          `${what}: ${mebibytes(bytes)} MiB as float32, and ${mebibytes(left)} MiB of WebAssembly memory are left; take fewer blocks or less KV cache`,
        )
      }
      reserved += bytes
    },
    release(bytes) {
      reserved -= bytes
    },
  }
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
