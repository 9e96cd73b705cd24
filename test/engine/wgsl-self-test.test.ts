import { describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import type { SelfTestStore } from '../../src/engine/wgsl-self-test.ts'
import { createWgslEngine } from '../../src/engine/wgsl-engine.ts'
import { silentLogger } from '../../src/log.ts'
import { openTestContext, testShaders } from '../gpu/test-context.ts'

const opened = await openTestContext()
opened?.close()
const shaders = await testShaders()

async function open(sources: ReadonlyMap<string, string>, selfTests: SelfTestStore) {
  const gpu = (await openGpu()) as GPU
  const engine = await createWgslEngine({
    gpu,
    shaders: sources,
    log: silentLogger,
    allowSoftware: true,
    selfTests,
  })
  await engine.close()
}

function memory(): SelfTestStore & { readonly values: Map<string, string> } {
  const values = new Map<string, string>()
  return {
    values,
    get: async (key) => values.get(key),
    put: async (key, value) => void values.set(key, value),
  }
}

/** What drivers were seen to get wrong, or could: one line of each kernel changed. */
const BROKEN: readonly (readonly [path: string, line: string, changed: string])[] = [
  ['rms_norm.wgsl', 'params.epsilon)', 'params.epsilon * 1.01 + 0.001)'],
  ['layer_norm.wgsl', '* factor, weight[i], bias[i])', '* factor, weight[i], bias[i] * 1.01)'],
  ['matmul.wgsl', 'sum = fma(w.w, x[r].w, sum);', 'sum = fma(w.w, x[r].z, sum);'],
  ['matmul_tiled.wgsl', 'totals[i] = totals[i] + sums[i];', 'totals[i] = sums[i];'],
  ['lib/weight_q8.wgsl', '(word & 2u) != 0u', '(word & 2u) == 0u'],
  ['lib/activation.wgsl', 'select(tail, 1.0 - tail, x >= 0.0)', 'select(tail, 1.0 - tail, x >= -0.5)'],
  ['rope_kv_write.wgsl', 'x * turn.x + head[i - half]', 'x * turn.x - head[i - half]'],
  ['rope_kv_write.wgsl', 'select(0u, params.head_dim, is_key)', '0u'],
  ['attention.wgsl', 'keep = exp(largest - new_largest);', 'keep = 1.0;'],
  ['attention.wgsl', 'bias = to_bfloat16(slopes', 'bias = (slopes'],
  ['lib/split.wgsl', 'end - min(end, window)', 'end - min(end, window - 1u)'],
  ['attention_reduce.wgsl', 'let weight = exp(', 'let weight = 1.0 + 0.0 * exp('],
  ['route.wgsl', 'rival > score ||', 'rival < score ||'],
  ['expert_matmul.wgsl', 'sums[c] = 0.0;', ''],
]

describe.skipIf(opened === undefined)('wgsl self-test', () => {
  it('passes where kernels are right, and is not run again for the same adapter and kernels', async () => {
    const store = memory()
    await open(shaders, store)
    expect([...store.values.values()]).toEqual(['passed'])
    const key = [...store.values.keys()][0] as string
    expect(key).toMatch(/^wgsl .+ [0-9a-f]+$/)
    // A kernel that would fail is not tried: its key says that it passed.
    const [path, line, changed] = BROKEN[0] as (typeof BROKEN)[0]
    const broken = new Map(shaders).set(path, (shaders.get(path) as string).replace(line, changed))
    await expect(open(broken, store)).rejects.toMatchObject({ code: 'engine' })
    expect(store.values.size).toBe(1)
    await open(broken, { get: async () => 'passed', put: async () => undefined })
  })

  it.each(BROKEN)('refuses a driver that computes garbage: %s, %s', async (path, line, changed) => {
    const source = shaders.get(path) as string
    expect(source).toContain(line)
    const store = memory()
    const asked = open(new Map(shaders).set(path, source.replace(line, changed)), store)
    await expect(asked).rejects.toThrow(/computes wrong numbers .*use another engine|computes wrong numbers/)
    await expect(asked).rejects.toMatchObject({ code: 'engine' })
    expect(store.values.size).toBe(0)
  })
})
