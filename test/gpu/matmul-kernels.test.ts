import { describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import { type GpuContext, openContext } from '../../src/gpu/context.ts'
import { compileInvariantMatmul } from '../../src/gpu/matmul-kernels.ts'
import { createLogger, silentLogger } from '../../src/log.ts'
import { openTestContext, testShaders } from './test-context.ts'

const opened = await openTestContext()
const context = opened as GpuContext

describe.skipIf(opened === undefined)('compileInvariantMatmul', () => {
  it.skipIf(opened?.device.adapter.software !== true)(
    'keeps all kernels where they make the same bits',
    async () => {
      // Compiling is what takes the time here: one plain and one gated variant.
      for (const variant of [
        { format: 'f16', activation: 'none', gated: false },
        { format: 'q4', activation: 'silu', gated: true },
      ] as const) {
        const { fewRows, manyRows, oneRow } = await compileInvariantMatmul(context, variant)
        expect(new Set([oneRow, fewRows, manyRows]).size, variant.format).toBe(3)
      }
      context.close()
    },
  )

  it.each([
    // What a driver that reassociates one of the kernels would do.
    ['matmul.wgsl', '* STRIDE + l]', '* STRIDE + select(l, LANES - 1u - l, ROWS > 1u)]'],
    ['matmul_tiled.wgsl', 'totals[i] + sums[i]', 'sums[i] + totals[i] * 0.9999999'],
  ])('uses one kernel for everything where %s differs, and says so', async (name, sum, other) => {
    const shaders = new Map(await testShaders())
    const source = shaders.get(name) as string
    expect(source).toContain(sum)
    shaders.set(name, source.replace(sum, other))
    const warnings: string[] = []
    const log = createLogger('warn', ({ message }) => warnings.push(message))
    const gpu = (await openGpu()) as GPU
    const strange = await openContext({ gpu, shaders, log, allowSoftware: true })
    const variant = { format: 'f32', activation: 'none', gated: false } as const
    const { fewRows, manyRows, oneRow } = await compileInvariantMatmul(strange, variant)
    expect(new Set([oneRow, fewRows, manyRows]).size).toBe(1)
    expect(warnings).toHaveLength(1)
    strange.close()
  })

  it('refuses a driver that computes garbage', async () => {
    const shaders = new Map(await testShaders())
    const source = shaders.get('lib/weight_q8.wgsl') as string
    expect(source).toContain('word & 2u')
    shaders.set('lib/weight_q8.wgsl', source.replace('word & 2u', 'word & 4u'))
    const gpu = (await openGpu()) as GPU
    const broken = await openContext({ gpu, shaders, log: silentLogger, allowSoftware: true })
    const compiled = compileInvariantMatmul(broken, { format: 'q8', activation: 'none', gated: false })
    await expect(compiled).rejects.toThrow(/computes wrong numbers: a product of q8 weights/)
    broken.close()
  })
})
