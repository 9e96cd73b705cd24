/// <reference lib="webworker" />
import type { WasmThreadJob } from '../../src/platform.ts'

/** One thread of the wasm engine: waits inside the kernels for work until the engine is closed. */
self.addEventListener(
  'message',
  ({ data: { module, memory, parameters } }: MessageEvent<WasmThreadJob>) => {
    const instance = new WebAssembly.Instance(module, { env: { memory } })
    const work = instance.exports['work'] as (...parameters: number[]) => void
    self.postMessage('ready', [])
    work(...parameters)
    self.postMessage('ended', [])
  },
  { once: true },
)
