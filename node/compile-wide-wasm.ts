import v8 from 'node:v8'

/** V8 versions whose 256-bit code was tried: 13.6 is Node 24's, 15.0 that of Deno 2.9. */
const KNOWN = /^1[345]\./

/**
 * Without lazy compilation and Liftoff all functions are compiled, and optimised, before the module is there: code made
 * after the flags are back would be the ordinary one, and other modules keep it.
 */
const FLAGS = ['experimental-wasm-revectorize', 'no-liftoff', 'no-wasm-lazy-compilation']

/**
 * Compiles WebAssembly with V8's revectorizer, which makes one 256-bit instruction of two of 128 bits; undefined where V8 has
 * none. It pairs vectors that are stored side by side, when nothing is written between their loads.
 */
export const compileWideWasm: ((code: Uint8Array<ArrayBuffer>) => WebAssembly.Module) | undefined =
  process.arch === 'x64' && KNOWN.test(process.versions['v8'] ?? '') ? compile : undefined

function compile(code: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  for (const flag of FLAGS) v8.setFlagsFromString(`--${flag}`)
  try {
    return new WebAssembly.Module(code)
  } finally {
    for (const flag of FLAGS)
      v8.setFlagsFromString(flag.startsWith('no-') ? `--${flag.slice(3)}` : `--no-${flag}`)
  }
}
