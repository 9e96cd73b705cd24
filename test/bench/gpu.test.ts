import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'

const MAIN = join(import.meta.dirname, '../../node/main.ts')

const adapter = await (await openGpu().catch(() => undefined))?.requestAdapter()
if (!adapter) {
  console.log('skipped, no WebGPU adapter (node test/setup/install-system.ts installs one)')
}

describe.skipIf(!adapter)('chorale bench gpu', () => {
  it('reports shares, dispatches and host work, and why a rival did not run', async () => {
    const args = ['bench', 'gpu', '--rounds', '2', '--engine', 'wgsl,another', '--json']
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args])
    const document = JSON.parse(stdout) as Record<string, unknown> & { results: Record<string, unknown>[] }
    expect(document).toMatchObject({
      device: expect.any(String),
      shrunken: document['software'],
      roofline: { readGBs: expect.any(Number), tflops: expect.any(Number) },
      rivals: [
        { engine: 'another', reason: expect.stringContaining('unknown engine') },
        { engine: 'another', reason: expect.stringContaining('unknown engine') },
      ],
    })
    expect(document.results.map(({ format }) => format)).toEqual(['Q4_0', 'F16'])
    for (const result of document.results) {
      expect(result).toMatchObject({ engine: 'wgsl', difference: 0 })
      expect(result['dispatchesPerBlock']).toBeLessThanOrEqual(9)
      for (const figure of ['decodeMs', 'decodeGBs', 'bandwidthShare', 'prefillTflops', 'hostUs']) {
        expect(result[figure], figure).toBeGreaterThan(0)
      }
    }
  })
})
