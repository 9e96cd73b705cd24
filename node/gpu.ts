import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Platform } from '../src/platform.ts'

let opened: ReturnType<Platform['gpu']> | undefined

/**
 * WebGPU of this process: Deno's own, in Node the one of the `webgpu` package (Dawn), loaded when first asked for.
 * Undefined where neither is there.
 */
export function openGpu(): Promise<GPU | undefined> {
  opened ??= open()
  return opened
}

async function open(): Promise<GPU | undefined> {
  provideRuntimeFolder()
  if ('Deno' in globalThis) return navigator.gpu as GPU | undefined
  try {
    const { create } = await import('webgpu')
    // `opened` keeps it alive: Dawn's devices must not outlive the object that made them.
    return create([])
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** The Vulkan loader and lavapipe give up without a private folder for their sockets. */
function provideRuntimeFolder(): void {
  if (process.platform !== 'linux' || (process.env['XDG_RUNTIME_DIR'] ?? '') !== '') return
  // mkdtemp makes it 0700. A few bytes at most; the system clears its temporary folder.
  process.env['XDG_RUNTIME_DIR'] = mkdtempSync(join(tmpdir(), 'chorale-runtime-'))
}

function isMissing(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED'
}
