import { afterAll, describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import { ownBuffers, upload, USAGE } from '../../src/gpu/buffers.ts'
import type { GpuContext } from '../../src/gpu/context.ts'
import { describeAdapter, isSoftwareAdapter, openDevice } from '../../src/gpu/device.ts'
import { createInTurn } from '../../src/gpu/in-turn.ts'
import { silentLogger } from '../../src/log.ts'
import { openTestContext, runOps } from './test-context.ts'

const opened = await openTestContext()
const context = opened as GpuContext
afterAll(() => opened?.close())

const info = (vendor: string, architecture: string, description: string) => ({
  vendor,
  architecture,
  description,
})

describe('isSoftwareAdapter', () => {
  it('knows the CPU renderers', () => {
    for (const software of [
      info('mesa', 'software', 'llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)'),
      info('65541', '', 'llvmpipe (LLVM 15.0.6, 256 bits)'),
      info('google', 'swiftshader', ''),
      info('', '', 'SwiftShader Device (Subzero)'),
      info('microsoft', '', 'Microsoft Basic Render Driver'),
      { ...info('', '', ''), isFallbackAdapter: true },
    ]) {
      expect(isSoftwareAdapter(software), JSON.stringify(software)).toBe(true)
    }
  })

  it('leaves GPUs alone', () => {
    for (const real of [
      info('nvidia', 'hopper', 'NVIDIA H200'),
      info('apple', 'metal-3', ''),
      info('amd', 'rdna-3', 'AMD Radeon RX 7900 XTX (RADV NAVI31)'),
      info('intel', 'gen-12lp', 'Intel(R) Xe Graphics (TGL GT2)'),
      info('', '', ''),
    ]) {
      expect(isSoftwareAdapter({ ...real, isFallbackAdapter: false }), JSON.stringify(real)).toBe(false)
    }
  })
})

describe('openDevice', () => {
  it('says what to use where there is no adapter', async () => {
    const gpu = { requestAdapter: async () => null } as unknown as GPU
    await expect(openDevice({ gpu, log: silentLogger })).rejects.toMatchObject({ code: 'engine' })
    expect(await describeAdapter(gpu)).toBeUndefined()
  })
})

describe.skipIf(opened === undefined)('a device', () => {
  it('is described for people', async () => {
    const adapter = await describeAdapter((await openGpu()) as GPU)
    expect(adapter?.name).toBe(context.device.adapter.name)
    expect(adapter?.name).not.toBe('')
    expect(adapter?.limits.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(2 ** 27)
  })

  it('reports an invalid command at the next check, once', async () => {
    const broken = (await openTestContext()) as GpuContext
    const buffer = await broken.buffers.create('test', 16, USAGE.storage | USAGE.copyTarget)
    const output = await broken.buffers.create('test', 16, USAGE.storage | USAGE.copySource)
    broken.device.raw.queue.writeBuffer(buffer, 0, new Uint8Array(64))
    await expect(runOps(broken, [], 1, output, 4)).rejects.toMatchObject({ code: 'engine' })
    expect(await runOps(broken, [], 1, output, 4)).toEqual(new Float32Array(4))
    broken.close()
  })

  it('that was destroyed by somebody else gives engine errors, not crashes', async () => {
    const lost = (await openTestContext()) as GpuContext
    const output = await lost.buffers.create('test', 16, USAGE.storage | USAGE.copySource)
    lost.device.raw.destroy()
    await expect(runOps(lost, [], 1, output, 4)).rejects.toMatchObject({ code: 'engine' })
    await expect.poll(() => codeOf(() => lost.device.check())).toBe('engine')
    await expect(lost.buffers.create('test', 16, USAGE.storage)).rejects.toThrow(/device is lost/)
  })

  it('uploads shared memory, which Dawn would crash on, by copying it', async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(16)).fill(0)
    new DataView(shared.buffer).setFloat32(4, 2.5, true)
    const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource
    const buffer = await context.buffers.create('test', 16, usage)
    upload(context.device, buffer, 0, shared)
    expect([...(await runOps(context, [], 1, buffer, 4))]).toEqual([0, 2.5, 0, 0])
    context.buffers.destroy(buffer)
  })

  it('counts the bytes of its buffers and refuses what exceeds its limits', async () => {
    const before = context.buffers.allocatedBytes
    const owned = ownBuffers(context.buffers)
    const one = await owned.create('test', 100, USAGE.storage)
    await owned.create('test', 4, USAGE.storage)
    expect(context.buffers.allocatedBytes - before).toBe(112 + 16)
    owned.destroy(one)
    owned.destroy(one)
    expect(owned.allocatedBytes).toBe(16)
    owned.destroyAll()
    expect(context.buffers.allocatedBytes).toBe(before)
    const large = context.device.limits.maxStorageBufferBindingSize + 16
    await expect(context.buffers.create('a giant', large, USAGE.storage)).rejects.toThrow(/a giant needs/)
  })

  it('leaves the CPU alone while idle', async () => {
    const start = process.cpuUsage()
    const began = performance.now()
    await new Promise((resolve) => setTimeout(resolve, 300))
    const { user, system } = process.cpuUsage(start)
    expect((user + system) / 1000 / (performance.now() - began)).toBeLessThan(0.5)
  })
})

describe('createInTurn', () => {
  it('runs jobs in order and goes on after a failure', async () => {
    const inTurn = createInTurn()
    const seen: number[] = []
    const first = inTurn(async () => {
      await Promise.resolve()
      seen.push(1)
      throw new Error('first fails')
    })
    const second = inTurn(async () => seen.push(2))
    await expect(first).rejects.toThrow('first fails')
    await second
    expect(seen).toEqual([1, 2])
  })
})

function codeOf(action: () => void): unknown {
  try {
    action()
    return undefined
  } catch (error) {
    return (error as { code?: unknown }).code
  }
}
