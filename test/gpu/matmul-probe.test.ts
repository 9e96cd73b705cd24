import { describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import { type GpuContext, openContext } from '../../src/gpu/context.ts'
import { compileInvariantMatmul } from '../../src/gpu/matmul-probe.ts'
import type { WeightFormat } from '../../src/gpu/matrix.ts'
import { createLogger } from '../../src/log.ts'
import { openTestContext, testShaders } from './test-context.ts'

const opened = await openTestContext()
const context = opened as GpuContext
const formats: WeightFormat[] = ['f32', 'f16', 'bf16']

describe.skipIf(opened === undefined)('compileInvariantMatmul', () => {
  it.skipIf(opened?.device.adapter.software !== true)(
    'keeps both tiles where they make the same bits',
    async () => {
      for (const format of formats) {
        const { oneRow, manyRows } = await compileInvariantMatmul(context, format)
        expect(oneRow, format).not.toBe(manyRows)
      }
      context.close()
    },
  )

  it('uses one tile for everything where they differ, and says so', async () => {
    const shaders = new Map(await testShaders())
    const sum = 'partial[local_output * LANES + l]'
    const source = shaders.get('matmul.wgsl') as string
    expect(source).toContain(sum)
    // What a driver that reassociates one of the two would do.
    const other = 'partial[local_output * LANES + select(l, LANES - 1u - l, ROWS > 1u)]'
    shaders.set('matmul.wgsl', source.replace(sum, other))
    const warnings: string[] = []
    const log = createLogger('warn', ({ message }) => warnings.push(message))
    const gpu = (await openGpu()) as GPU
    const strange = await openContext({ gpu, shaders, log, allowSoftware: true })
    for (const format of formats) {
      const { oneRow, manyRows } = await compileInvariantMatmul(strange, format)
      expect(oneRow, format).toBe(manyRows)
    }
    expect(warnings).toHaveLength(formats.length)
    strange.close()
  })
})
