import { describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import { createWgslEngine } from '../../src/engine/wgsl-engine.ts'
import { silentLogger } from '../../src/log.ts'
import type { FactStore } from '../../src/platform.ts'
import { openTestContext, testShaders } from '../gpu/test-context.ts'

const opened = await openTestContext()
opened?.close()
const shaders = await testShaders()

async function open(sources: ReadonlyMap<string, string>, facts: FactStore) {
  const gpu = (await openGpu()) as GPU
  const engine = await createWgslEngine({
    gpu,
    shaders: sources,
    log: silentLogger,
    allowSoftware: true,
    facts,
  })
  await engine.close()
}

function memory(): FactStore & { readonly values: Map<string, string> } {
  const values = new Map<string, string>()
  return {
    values,
    get: async (key) => values.get(key),
    put: async (key, value) => void values.set(key, value),
  }
}

/**
 * One line changed: of what is tried when compiled, and of each case of the self-test. Each costs a fresh
 * compilation of the kernel, seconds on a software adapter; so these stand for all.
 */
const BROKEN: readonly (readonly [path: string, line: string, changed: string])[] = [
  ['matmul.wgsl', 'sum = fma(w.w, x[r].w, sum);', 'sum = fma(w.w, x[r].z, sum);'],
  ['rope_kv_write.wgsl', 'select(0u, params.head_dim, is_key)', '0u'],
  ['attention.wgsl', 'bias = to_bfloat16(slopes', 'bias = (slopes'],
  // What llvmpipe was seen to do by itself.
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
