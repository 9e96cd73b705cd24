import type { Engine } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { errorMessage } from '../../src/errors.ts'
import { describeAdapter } from '../../src/gpu/device.ts'
import type { Logger } from '../../src/log.ts'
import plainKernels from '../../src/engine/wasm/kernels-plain.wasm?url'
import { startWasmThread, wasmCores } from './wasm-thread.ts'
import relaxedKernels from '../../src/engine/wasm/kernels-relaxed.wasm?url'

/** An engine and, for people, why it. */
export interface ChosenEngine {
  readonly engine: Engine
  readonly why: string
}

/** What a user may ask for; `wgsl` by name takes a software adapter too. */
export type EngineWish = 'auto' | 'wgsl' | 'wasm'

/**
 * Engines for a tab, best first: WebGPU on a real adapter, WebAssembly, plain JavaScript. The caller takes the first
 * that loads its model; a software adapter is slower than WebAssembly and never taken.
 */
export async function* tabEngines(
  log: Logger,
  wish: EngineWish = 'auto',
): AsyncGenerator<ChosenEngine, void, void> {
  let why = 'this browser has no WebGPU'
  const gpu = (navigator as { gpu?: GPU }).gpu
  if (wish === 'wasm') why = 'asked for'
  else if (gpu !== undefined) {
    const adapter = await describeAdapter(gpu).catch(() => undefined)
    if (adapter === undefined) why = 'no GPU adapter'
    else if (adapter.software && wish !== 'wgsl') why = `the only GPU adapter is software (${adapter.name})`
    else {
      try {
        const [{ createWgslEngine }, { tabShaders }] = await Promise.all([
          import('../../src/engine/wgsl-engine.ts'),
          import('./shaders.ts'),
        ])
        yield {
          engine: await createWgslEngine({ gpu, shaders: tabShaders(), log, allowSoftware: wish === 'wgsl' }),
          why: `GPU adapter ${adapter.name}`,
        }
        why = `the GPU adapter ${adapter.name} does not compute this model`
      } catch (error) {
        why = `the GPU adapter ${adapter.name} failed (${errorMessage(error)})`
      }
    }
  }
  try {
    const engine = await createWasmEngine({
      kernels: async (name) => {
        const response = await fetch(name === 'relaxed' ? relaxedKernels : plainKernels)
        if (!response.ok) throw new Error(`its kernels could not be fetched (${response.status})`)
        return new Uint8Array(await response.arrayBuffer())
      },
      cores: wasmCores(),
      ...(wasmCores() > 1 && { startThread: startWasmThread }),
      log,
    })
    yield { engine, why: `${why}, so WebAssembly` }
    why += ', WebAssembly kernels do not compute this model'
  } catch (error) {
    why += `, WebAssembly failed (${errorMessage(error)})`
  }
  yield { engine: createReferenceEngine(), why: `${why}, so plain JavaScript` }
}
