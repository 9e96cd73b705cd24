import { openGpu } from '../../node/gpu.ts'
import { createWgslEngine, type WgslEngine } from '../../src/engine/wgsl-engine.ts'
import { errorMessage } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import type { FactStore } from '../../src/platform.ts'
import { testShaders } from '../gpu/test-context.ts'

/** Remembers that the self-test passed: once a file is enough. */
const passed = new Map<string, string>()
const facts: FactStore = {
  get: async (key) => passed.get(key),
  put: async (key, value) => void passed.set(key, value),
}

/** The engine on whatever adapter there is, software included, or undefined after printing why the tests are skipped. */
export async function openWgsl(kv: 'f32' | 'f16'): Promise<WgslEngine | undefined> {
  try {
    const gpu = await openGpu()
    if (gpu === undefined) throw new Error('no WebGPU here')
    const shaders = await testShaders()
    return await createWgslEngine({ gpu, shaders, log: silentLogger, allowSoftware: true, facts, kv })
  } catch (error) {
    console.log(
      `skipped, no WebGPU adapter: ${errorMessage(error)} (node test/setup/install-system.ts installs one)`,
    )
    return undefined
  }
}
