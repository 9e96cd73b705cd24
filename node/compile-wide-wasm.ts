import { isUtf8 } from 'node:buffer'
import v8 from 'node:v8'
import type { CompileWideWasm, WideWasm } from '../src/platform.ts'

/** V8 of Node 24, where it was tried. That of Node 22 gains nothing by it, those of 25 and 26 may end the process. */
const KNOWN = /^13\.6\./

/**
 * Without lazy compilation and Liftoff all functions are compiled, and optimised, before the module is there: code made
 * after the flags are back would be the ordinary one, and other modules keep it.
 */
const FLAGS = ['experimental-wasm-revectorize', 'no-liftoff', 'no-wasm-lazy-compilation']

const isKnown = process.arch === 'x64' && !('Deno' in globalThis) && KNOWN.test(process.versions['v8'] ?? '')

/**
 * Compiles WebAssembly with V8's revectorizer, which makes one 256-bit instruction of two of 128 bits where the processor has
 * AVX2; undefined where V8 is not known to have one, and in Deno, whose flags can't be set once it runs.
 */
export const compileWideWasm: CompileWideWasm | undefined = isKnown ? compile : undefined

function compile(code: Uint8Array<ArrayBuffer>): WideWasm {
  for (const flag of FLAGS) v8.setFlagsFromString(`--${flag}`)
  try {
    return { module: new WebAssembly.Module(code), done }
  } finally {
    for (const flag of FLAGS)
      v8.setFlagsFromString(flag.startsWith('no-') ? `--${flag.slice(3)}` : `--no-${flag}`)
  }
}

const SOME_TEXT = new Uint8Array(64)

/**
 * V8 does not end such code with VZEROUPPER, so its builtins (SSE) and optimised JavaScript (AVX) wait a hundred cycles each
 * time they call each other (Intel, Optimization Reference Manual, "Mixing AVX code with SSE code"). What checks UTF-8 in
 * Node is compiled for AVX2 and ends with it; it takes some 20 ns.
 */
function done(): void {
  isUtf8(SOME_TEXT)
}
