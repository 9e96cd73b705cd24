/// <reference lib="webworker" />
import type { WasmThread, WasmThreadJob } from '../../src/platform.ts'

/** Logical cores that the wasm engine of a worker may use; 1 where threads can't share memory. */
export function wasmCores(): number {
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1
}

/** Starts a worker of a worker that runs the wasm engine's kernels; resolves when it is ready. Rejects when it does not start. */
export async function startWasmThread(job: WasmThreadJob): Promise<WasmThread> {
  const worker = new Worker(new URL('./wasm-thread-worker.ts', import.meta.url), { type: 'module' })
  const ended = Promise.withResolvers<void>()
  await new Promise<void>((resolve, reject) => {
    worker.addEventListener('message', ({ data }: MessageEvent<'ready' | 'ended'>) => {
      if (data === 'ready') resolve()
      else {
        worker.terminate()
        ended.resolve()
      }
    })
    worker.addEventListener('error', (event) => reject(new Error(event.message || 'a thread did not start')))
    worker.postMessage(job, [])
  })
  return { join: () => ended.promise }
}
