import { lstatSync, mkdirSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
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
  if ('Deno' in globalThis) return navigator.gpu
  try {
    const { create, globals } = await import('webgpu')
    // `opened` keeps it alive: Dawn's devices must not outlive the object that made them.
    const gpu = create([])
    // Where browsers have it: onnxruntime-web looks there, and tells a device by its class.
    Object.assign(globalThis, globals)
    Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true })
    return gpu
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Vulkan drivers may give up without a private folder for their sockets, as services and containers lack one. */
function provideRuntimeFolder(): void {
  const user = process.getuid?.()
  if (process.platform !== 'linux' || user === undefined || (process.env['XDG_RUNTIME_DIR'] ?? '') !== '')
    return
  const folder = join(tmpdir(), `chorale-gpu-${user}`)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const entry = lstatSync(folder)
    // Somebody else's folder or a link under that name is not private: then the driver has to do without.
    if (entry.isDirectory() && entry.uid === user) process.env['XDG_RUNTIME_DIR'] = folder
  } catch {
    // A read-only temporary folder: the same.
  }
}

function isMissing(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED'
}

/** Device files of GPU drivers on Linux: DRM render nodes, NVIDIA, AMD compute, WSL, Mali. */
const GPU_DEVICE_FILE = /^(dri|nvidia\d+|nvidiactl|kfd|dxg|mali\d+)$/

/** Whether a GPU can be there: on Linux one of its drivers' device files; elsewhere always yes. */
export async function mayHaveGpu(): Promise<boolean> {
  if (process.platform !== 'linux') return true
  const names = await readdir('/dev').catch(() => undefined)
  return names === undefined || names.some((name) => GPU_DEVICE_FILE.test(name))
}
