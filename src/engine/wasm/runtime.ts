import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { WasmThread, WasmThreadJob } from '../../platform.ts'
import type { KernelCode } from './kernel-code.ts'
import { CONTROL_BYTES, CONTROL_EPOCH, CONTROL_OPERATION, OPERATION_STOP, THREAD_BYTES } from './layout.ts'
import { createLinearMemory, type LinearMemory } from './linear-memory.ts'

/** The kernels on one memory, with their threads waiting for operations. */
export interface WasmRuntime {
  readonly memory: LinearMemory
  readonly exports: KernelExports
  readonly threads: number
  readonly code: KernelCode
  /** Whether activations are rounded to 15 bits instead of 8 before they meet quantised weights. */
  readonly wide: boolean
  /** Runs an operation on all threads; blocks until they are done. */
  run(operation: number, argument: number): void
  /** The final norm of a head's rows, on this thread. */
  finalNorm(head: number): void
  /** The norms of a matrix's outputs (`kernels/screen.ts`), on this thread. */
  rowNorms(matrix: number, norms: number): void
  /** Ends the threads. */
  close(): Promise<void>
}

/** What `kernels/main.ts` exports. */
export interface KernelExports {
  bind(
    control: number,
    thread: number,
    threads: number,
    vectorBits: number,
    halfBits: number,
    halfFactor: number,
    nibbleBits: number,
  ): void
  start(control: number, operation: number, argument: number): void
  finalNorm(head: number): void
  rowNorms(matrix: number, norms: number): void
  activate(activation: number, x: number, up: number, count: number): void
  multiply(
    matrix: number,
    octets: number,
    x: number,
    columns: number,
    rounded: number,
    rows: number,
    out: number,
    outStride: number,
  ): void
  screen(
    matrix: number,
    octets: number,
    columns: number,
    rounded: number,
    rows: number,
    screened: number,
    bests: number,
    out: number,
    outStride: number,
  ): void
}

export interface WasmRuntimeOptions {
  readonly threads: number
  readonly code: KernelCode
  readonly startThread: ((job: WasmThreadJob) => Promise<WasmThread>) | undefined
  readonly log: Logger
  readonly wide?: boolean
}

/** Masks and a factor that the kernels keep in variables: see `kernels/half.ts`. */
const PATTERNS = [0x8fffe000 | 0, 2 ** 112, 15] as const

/** @throws `engine` when the kernels do not run here or a thread does not start. */
export async function createWasmRuntime(options: WasmRuntimeOptions): Promise<WasmRuntime> {
  const { code, log, startThread, threads } = options
  const linear = createLinearMemory()
  const control = linear.allocate(CONTROL_BYTES + threads * THREAD_BYTES, 'thread control')
  linear.bytes(control, CONTROL_BYTES).fill(0)
  let exports: KernelExports
  try {
    const instance = await WebAssembly.instantiate(code.module, { env: { memory: linear.memory } })
    exports = instance.exports as unknown as KernelExports
  } catch (cause) {
    throw new ChoraleError('engine', `engine wasm: its kernels do not run here: ${errorMessage(cause)}`, {
      cause,
    })
  }
  const helpers: WasmThread[] = []
  const stop = async () => {
    const words = linear.integers(control, CONTROL_BYTES / 4)
    words[CONTROL_OPERATION / 4] = OPERATION_STOP
    Atomics.add(words, CONTROL_EPOCH / 4, 1)
    Atomics.notify(words, CONTROL_EPOCH / 4)
    await Promise.all(helpers.map((helper) => helper.join()))
  }
  if (startThread !== undefined) {
    try {
      for (let thread = 1; thread < threads; thread++) {
        helpers.push(
          await startThread({
            module: code.module,
            memory: linear.memory,
            parameters: [control, thread, threads, code.vectorBits, ...PATTERNS],
          }),
        )
      }
    } catch (cause) {
      await stop()
      throw new ChoraleError(
        'engine',
        `engine wasm: thread ${helpers.length + 1} did not start: ${errorMessage(cause)}`,
        {
          cause,
        },
      )
    }
  } else if (threads > 1) {
    throw new ChoraleError(
      'engine',
      `engine wasm: ${threads} threads asked, but none can be started here; ask for 1`,
    )
  }
  exports.bind(control, 0, threads, code.vectorBits, ...PATTERNS)
  log.debug('kernels started', { threads, relaxed: code.relaxed, vectorBits: code.vectorBits })
  let closed: Promise<void> | undefined
  return {
    memory: linear,
    exports,
    threads,
    code,
    wide: options.wide ?? true,
    run(operation, argument) {
      if (closed !== undefined) throw new ChoraleError('engine', 'the wasm engine was closed')
      exports.start(control, operation, argument)
      code.done()
    },
    finalNorm(head) {
      exports.finalNorm(head)
      code.done()
    },
    rowNorms(matrix, norms) {
      exports.rowNorms(matrix, norms)
      code.done()
    },
    close() {
      closed ??= stop()
      return closed
    },
  }
}
