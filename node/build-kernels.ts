/** Compiles the wasm engine's AssemblyScript kernels: `node node/build-kernels.ts` writes both modules next to their host side. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import asc from 'assemblyscript/asc'
import type { WasmKernels } from '../src/platform.ts'

const FOLDER = join(import.meta.dirname, '..', 'src', 'engine', 'wasm')

/** Both modules. @throws Error with the compiler's messages. */
export async function compileKernels(): Promise<WasmKernels> {
  return { relaxed: await compile(true), plain: await compile(false) }
}

async function compile(relaxed: boolean): Promise<Uint8Array<ArrayBuffer>> {
  let output: Uint8Array<ArrayBuffer> | undefined
  let messages = ''
  const options = [
    '--runtime',
    'stub',
    // Level 3 moves dot products away from where the kernels put them: a fifth slower.
    '-O2',
    '--noAssert',
    // One load of a constant for both halves of a vector: only then V8 makes one instruction of them.
    '--runPasses',
    'local-cse',
    '--importMemory',
    '--sharedMemory',
    '--initialMemory',
    '1',
    // Constants lie below what the host allocates.
    '--memoryBase',
    '64',
  ]
  const features = relaxed ? 'simd,relaxed-simd,threads' : 'simd,threads'
  const { error } = await asc.main(
    [
      'kernels/main.ts',
      '--outFile',
      'out.wasm',
      ...options,
      '--maximumMemory',
      '65536',
      '--enable',
      features,
    ],
    {
      readFile: async (name) => await readFile(join(FOLDER, name), 'utf8').catch(() => null),
      writeFile: async (_name, contents) => {
        if (typeof contents !== 'string') output = new Uint8Array(contents)
      },
      listFiles: async () => [],
      stderr: {
        write: (text) => {
          messages += String(text)
        },
      },
    },
  )
  if (error !== null || output === undefined) throw new Error(`the kernels do not compile: ${messages}`)
  return output
}

if (import.meta.main) {
  for (const [name, bytes] of Object.entries(await compileKernels())) {
    await writeFile(join(FOLDER, `kernels-${name}.wasm`), bytes as Uint8Array)
    process.stdout.write(`kernels-${name}.wasm: ${(bytes as Uint8Array).length} bytes\n`)
  }
}
