import { readdir, readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLogger, type Logger, type LogLevel } from '../src/log.ts'
import type { Platform } from '../src/platform.ts'
import { compileWideWasm } from './compile-wide-wasm.ts'
import { createFactStore } from './fact-store.ts'
import { createFileStore } from './file-store.ts'
import { cacheFolder } from './folders.ts'
import { mayHaveGpu, openGpu } from './gpu.ts'
import { readWasmKernels, startWasmThread } from './wasm-threads.ts'

/** The repository or package folder: shaders, bundled models and the entry file live under it. */
export const PACKAGE_ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The platform object for Node and Deno. */
export function createNodePlatform(log: Logger): Platform {
  return {
    name: 'Deno' in globalThis ? 'deno' : 'node',
    log,
    cores: availableParallelism(),
    gpu: openGpu,
    mayHaveGpu,
    shaders: () => readShaders(join(PACKAGE_ROOT, 'shaders')),
    files: createFileStore(),
    facts: createFactStore(join(cacheFolder(), 'facts')),
    wasmKernels: readWasmKernels,
    ...(compileWideWasm && { compileWideWasm }),
    startWasmThread,
  }
}

/** A logger that writes plain lines, or JSON lines, to stderr: stdout is for data. */
export function stderrLogger(level: LogLevel, format: 'text' | 'json' = 'text'): Logger {
  return createLogger(level, ({ time, level: lineLevel, scope, message, fields }) => {
    if (format === 'json') {
      process.stderr.write(`${JSON.stringify({ time, level: lineLevel, scope, message, ...fields })}\n`)
      return
    }
    const detail = Object.entries(fields).map(([key, value]) => ` ${key}=${String(value)}`)
    process.stderr.write(`${lineLevel} ${scope}: ${message}${detail.join('')}\n`)
  })
}

async function readShaders(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.wgsl'))
  const sources = names.map(
    async (name) => [name.replaceAll('\\', '/'), await readFile(join(folder, name), 'utf8')] as const,
  )
  return new Map(await Promise.all(sources))
}
