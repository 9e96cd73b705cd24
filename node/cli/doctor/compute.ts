import { join } from 'node:path'
import { describeAdapter } from '../../../src/gpu/device.ts'
import type { Engine } from '../../../src/engine/engine.ts'
import { createReferenceEngine } from '../../../src/engine/reference/reference-engine.ts'
import { createEngine } from '../../../src/engine/select.ts'
import { errorMessage } from '../../../src/errors.ts'
import type { Platform } from '../../../src/platform.ts'
import { loadEmbedding } from '../../../src/model/embedding.ts'
import type { Model } from '../../../src/model/model.ts'
import { relativeError } from '../../../src/tensor/relative-error.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { PACKAGE_ROOT } from '../../platform.ts'
import type { Check } from './machine.ts'

/** What the engine computes may differ from the reference by this share of the largest value. */
const TOLERANCE = 1e-4

/** Chooses the engine as `serve` would and compares one block of the bundled model with the reference engine. */
export async function checkEngine(
  platform: Platform,
): Promise<{ choice: { chosen: string | null; why: string }; check: Check }> {
  const fix = 'try --engine onnx or --engine reference; a GPU driver update helps when WebGPU fails'
  try {
    const { engine, why } = await createEngine(platform)
    const model = await openModelArgument(join(PACKAGE_ROOT, 'models', 'storyteller'))
    try {
      const difference = await blockDifference(model, engine)
      const ok = difference <= TOLERANCE
      const detail = `${engine.name} (${engine.description}): ${why}; one block differs from the reference by ${difference.toExponential(1)}`
      return {
        choice: { chosen: engine.name, why },
        check: { name: 'engine', ok, detail, fix: ok ? null : fix },
      }
    } finally {
      await engine.close()
      await model.close()
    }
  } catch (error) {
    const detail = errorMessage(error)
    return { choice: { chosen: null, why: detail }, check: { name: 'engine', ok: false, detail, fix } }
  }
}

/** max |a - b| / max |b| of block 0 over a few tokens. */
async function blockDifference(model: Model, engine: Engine): Promise<number> {
  const embedding = await loadEmbedding(model)
  const hidden = embedding.gather([1, 2, 3, 4, 5])
  const run = async (under: Engine) => {
    const span = await under.loadSpan(model, { start: 0, end: 1, kvTokens: 16 })
    const lease = span.lease(hidden.shape[0])
    try {
      const [output] = await span.step([{ lease, hidden }])
      return output?.data ?? new Float32Array()
    } finally {
      lease.release()
      await span.close()
    }
  }
  const expected = await run(createReferenceEngine())
  const actual = await run(engine)
  return relativeError(actual, expected)
}

/** A machine without a GPU is fine (the CPU computes), so this check only fails when WebGPU itself breaks. */
export async function checkGpu(platform: Platform): Promise<Check> {
  try {
    const gpu = await platform.gpu()
    const adapter = gpu === undefined ? undefined : await describeAdapter(gpu)
    if (adapter === undefined)
      return { name: 'gpu', ok: true, detail: 'no WebGPU adapter; the CPU computes', fix: null }
    const limits = `buffers to ${mebibytes(adapter.limits.maxBufferSize)} MiB, bindings to ${mebibytes(adapter.limits.maxStorageBufferBindingSize)} MiB`
    const use = adapter.software ? 'a software adapter: used by tests only, the CPU computes' : 'used'
    const features = adapter.features.length === 0 ? 'no optional features' : adapter.features.join(', ')
    return { name: 'gpu', ok: true, detail: `${adapter.name} (${use}); ${limits}; ${features}`, fix: null }
  } catch (error) {
    return {
      name: 'gpu',
      ok: false,
      detail: `WebGPU does not start: ${errorMessage(error)}`,
      fix: 'install a Vulkan driver and the Vulkan loader (Debian, Ubuntu: libvulkan1 and mesa-vulkan-drivers), or use --engine onnx',
    }
  }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20)
}
