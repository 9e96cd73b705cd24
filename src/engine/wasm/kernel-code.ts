import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { CompileWideWasm, WasmKernels } from '../../platform.ts'
import { computesTheSame } from './compare-kernels.ts'

/** The kernels, compiled. */
export interface KernelCode {
  readonly module: WebAssembly.Module
  /** Whether the integer dot products are relaxed-SIMD instructions. */
  readonly relaxed: boolean
  /** Of the machine's vectors that they were compiled to. */
  readonly vectorBits: 128 | 256
  /** To be called after the kernels ran (`WideWasm`). */
  done(): void
}

export interface KernelCodeOptions {
  readonly kernels: (name: keyof WasmKernels) => Promise<Uint8Array<ArrayBuffer>>
  /** `Platform.compileWideWasm`. */
  readonly compileWide?: CompileWideWasm | undefined
  readonly log: Logger
}

/**
 * A module with one function that uses `i32x4.relaxed_dot_i8x16_i7x16_add_s`: whether it is valid tells whether the
 * machine knows relaxed SIMD.
 */
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 0, 253, 15, 65, 0,
  253, 15, 65, 0, 253, 15, 253, 147, 2, 11,
])

export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(RELAXED_PROBE)
}

/** Section 0 of two bytes: a name of one letter, `w`. */
const CUSTOM_SECTION = [0, 2, 1, 119]

/**
 * The fastest kernels that work on this machine: those of 256-bit vectors, those with relaxed SIMD, the plain ones. The first
 * two are used only when a small model's every value is what the plain ones give (`computesTheSame`): V8 makes the wide code as an
 * experiment, and its quick compiler computes relaxed dot products wrongly on processors without AVX.
 * @throws `engine` when the kernels do not compile.
 */
export async function fastestKernels(options: KernelCodeOptions): Promise<KernelCode> {
  const { compileWide, log } = options
  const plain = await loadKernels(options, 'plain')
  if (!hasRelaxedSimd()) return plain
  const candidates = [
    ...(compileWide === undefined
      ? []
      : [async () => wideKernels(await options.kernels('relaxed'), compileWide)]),
    () => loadKernels(options, 'relaxed'),
  ]
  for (const compile of candidates) {
    try {
      const code = await compile()
      if (await computesTheSame(code, plain, log)) return code
      log.warn('kernels that compute something else than the plain ones are not used', {
        vectorBits: code.vectorBits,
      })
    } catch (error) {
      log.warn('kernels that do not compile are not used', { error: errorMessage(error) })
    }
  }
  return plain
}

function wideKernels(code: Uint8Array<ArrayBuffer>, compileWide: CompileWideWasm): KernelCode {
  // A JavaScript engine keeps one machine code of equal bytes: a custom section without content sets these apart.
  const marked = new Uint8Array(code.length + CUSTOM_SECTION.length)
  marked.set(code)
  marked.set(CUSTOM_SECTION, code.length)
  const { module, done } = compileWide(marked)
  return { module, relaxed: true, vectorBits: 256, done }
}

/** Kernels as they are everywhere. @throws `engine` when they do not compile. */
export async function loadKernels(
  { kernels }: Pick<KernelCodeOptions, 'kernels'>,
  name: keyof WasmKernels,
): Promise<KernelCode> {
  try {
    const module = await WebAssembly.compile(await kernels(name))
    return { module, relaxed: name === 'relaxed', vectorBits: 128, done: () => undefined }
  } catch (cause) {
    throw new ChoraleError('engine', `engine wasm: its kernels do not compile here: ${errorMessage(cause)}`, {
      cause,
    })
  }
}
