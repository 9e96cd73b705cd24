import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import type { WasmKernels, WasmThread, WasmThreadJob } from '../src/platform.ts'

const KERNEL_FOLDER = fileURLToPath(new URL('../src/engine/wasm', import.meta.url))

/** The wasm engine's compiled kernels. */
export async function readWasmKernels(name: keyof WasmKernels): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(join(KERNEL_FOLDER, `kernels-${name}.wasm`)))
}

/** Starts a worker thread that runs the wasm engine's kernels; resolves when it is ready. Rejects when it does not start. */
export async function startWasmThread(job: WasmThreadJob): Promise<WasmThread> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { wasmThread: job } })
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve())
    worker.once('error', reject)
    worker.once('exit', () => reject(new Error('the worker thread ended before it was ready')))
  })
  // Waiting for work is no reason to keep a process alive that forgot to close its engine.
  worker.unref()
  return {
    join: async () => {
      worker.ref()
      await ended
    },
  }
}

/** This file is also what the worker thread runs. */
if (!isMainThread && typeof workerData === 'object' && workerData !== null && 'wasmThread' in workerData) {
  const { memory, module, parameters } = workerData.wasmThread as WasmThreadJob
  const instance = new WebAssembly.Instance(module, { env: { memory } })
  const work = instance.exports['work'] as (...parameters: number[]) => void
  parentPort?.postMessage('ready', [])
  work(...parameters)
}
