import { afterAll, describe, expect, it } from 'vitest'
import { openGpu } from '../../node/gpu.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxGpuEngine } from '../../src/engine/onnx-gpu-engine.ts'
import { packGroups, transpose } from '../../src/engine/onnx/gpu/gpu-weights.ts'
import { copySharedUploads } from '../../src/engine/onnx/gpu/ort-gpu.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { errorMessage } from '../../src/errors.ts'
import { f16ToF32 } from '../../src/tensor/dtype.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'
import { QUANTIZED_SPEC, quantizedModel, quantizedWeight } from './quantized-model.ts'
import { ODD_SPEC } from './random-model.ts'
import { noise, relativeError, runCut } from './span-runs.ts'

/** onnxruntime-web's WebGPU provider: on whatever adapter there is, software included. */

async function open(): Promise<Engine | undefined> {
  try {
    const gpu = await openGpu()
    if (gpu === undefined) throw new Error('no WebGPU here')
    return await createOnnxGpuEngine({ gpu, allowSoftware: true })
  } catch (error) {
    console.log(
      `skipped, no WebGPU adapter: ${errorMessage(error)} (node test/setup/install-system.ts installs one)`,
    )
    return undefined
  }
}

const opened = await open()
const engine = opened as Engine
afterAll(() => opened?.close())

/** 4-bit mlp, 8-bit attention, float32 head; norms of heads, a window, biases. */
const SPEC = { ...QUANTIZED_SPEC, blockCount: 2, qkNorm: true, windows: [null, 20] }
const model = quantizedModel(SPEC, (role) =>
  role === 'down' ? 'Q4_1' : /^(gate|up)/.test(role) ? 'Q4_0' : /^[qkvo]$/.test(role) ? 'Q8_0' : 'F32',
)
const TOKENS = 40

describe.skipIf(opened === undefined)('onnx engine on the WebGPU provider', () => {
  const options = { start: 0, end: 2, kvTokens: 3 * TOKENS }

  it('agrees with the reference engine to 1e-5 however the tokens are cut, weights kept quantised', async () => {
    const span = await engine.loadSpan(model, options)
    const reference = await createReferenceEngine().loadSpan(model, options)
    const hidden = noise(TOKENS, SPEC.hiddenSize)
    const expected = (await runCut(reference, hidden, [TOKENS])).data
    for (const cuts of [[TOKENS], [17, 1, 22], [37, 1, 1, 1]]) {
      expect(relativeError((await runCut(span, hidden, cuts)).data, expected)).toBeLessThan(1e-5)
    }
    const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount } = SPEC
    const attention = (2 * headCount + 2 * kvHeadCount) * headDim * hiddenSize
    // 8 or 4 bits and a float32 scale for 32 of them, with a minimum in down; norms and biases are a few KiB.
    const mlp = hiddenSize * intermediateSize * (3 * (1 / 2 + 4 / 32) + 4 / 32)
    const bytes = 2 * (attention * (1 + 4 / 32) + mlp)
    expect(span.weightBytes).toBeGreaterThan(bytes)
    expect(span.weightBytes).toBeLessThan(bytes + 40_000)
    await span.close()
  })

  it('computes logits and final norms', async () => {
    const hidden = noise(3, SPEC.hiddenSize)
    const [own, reference] = [await engine.loadHead(model), await createReferenceEngine().loadHead(model)]
    for (const of of ['logits', 'finalNorm'] as const) {
      const expected = (await reference[of](hidden)).data
      expect(relativeError((await own[of](hidden)).data, expected)).toBeLessThan(1e-5)
    }
    await own.close()
  })

  it('keeps sessions apart, forgets what was rolled back, and gives room back', async () => {
    const span = await engine.loadSpan(model, options)
    const hidden = noise(TOKENS, SPEC.hiddenSize)
    const whole = await runCut(span, hidden, [TOKENS])
    const [a, b] = [span.lease(TOKENS), span.lease(TOKENS)]
    expect(span.kvTokensFree).toBe(TOKENS)
    const [first] = await span.step([
      { lease: a, hidden: rows(hidden, 0, 20) },
      { lease: b, hidden: rows(hidden, 10, 40) },
    ])
    await span.step([{ lease: a, hidden: rows(hidden, 30, 40) }])
    a.rollback(20)
    const [second] = await span.step([{ lease: a, hidden: rows(hidden, 20, 40) }])
    const parts = [...(first as Tensor).data, ...(second as Tensor).data]
    expect(relativeError(parts, whole.data)).toBeLessThan(1e-5)
    await expect(span.step([{ lease: a, hidden: rows(hidden, 0, 1) }])).rejects.toMatchObject({
      code: 'capacity',
    })
    a.release()
    b.release()
    await expect(span.step([{ lease: a, hidden: rows(hidden, 0, 1) }])).rejects.toMatchObject({
      code: 'bad_request',
    })
    expect(span.kvTokensFree).toBe(3 * TOKENS)
    await span.close()
  })

  it('refuses experts and linear biases by name', async () => {
    const moe = { kind: 'moe', expertCount: 4, topK: 2, normalizeTopK: true } as const
    const experts = quantizedModel({ ...ODD_SPEC, mlp: moe }, () => 'F32')
    await expect(engine.loadSpan(experts, { ...options, end: 1 })).rejects.toMatchObject({
      code: 'not_supported',
    })
  })
})

describe('packGroups', () => {
  it.each([
    ['Q4_0', 4],
    ['Q4_1', 4],
    ['Q8_0', 8],
  ] as const)('holds %s without loss, as MatMulNBits reads it', (dtype, bits) => {
    const weight = quantizedWeight(dtype, [3, 64], 5)
    const { minima, scales, weights } = packGroups(weight)
    const factors = f16ToF32(scales)
    const zero = 2 ** (bits - 1)
    const integer = (i: number) =>
      bits === 8 ? (weights[i] as number) : ((weights[i >> 1] as number) >> (4 * (i & 1))) & 15
    const unpacked = Float32Array.from(
      { length: 192 },
      (_, i) =>
        (integer(i) - zero) * (factors[Math.floor(i / 32)] as number) + (minima?.[Math.floor(i / 32)] ?? 0),
    )
    // A zero's sign is lost, and changes no product's sum.
    expect(unpacked.map((value) => value + 0)).toEqual(dequantize(weight).map((value) => value + 0))
  })
})

describe('transpose', () => {
  it('turns rows into columns at sizes that are no multiple of its tile', () => {
    const values = Float32Array.from({ length: 33 * 70 }, (_, i) => i)
    const turned = transpose(values, 33, 70)
    expect(turned.every((value, i) => value === (i % 33) * 70 + Math.floor(i / 33))).toBe(true)
  })
})

describe('copySharedUploads', () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(32)).map((_, i) => i)
  const shared = new Uint8Array(new SharedArrayBuffer(32))
  shared.set(bytes)

  function upload(...values: unknown[]): { data: Uint8Array; buffer: ArrayBufferLike } {
    let seen: unknown[] = []
    const queue = { writeBuffer: (...all: unknown[]) => void (seen = all) }
    copySharedUploads(queue as unknown as GPUQueue)
    ;(queue.writeBuffer as (...all: unknown[]) => void)({}, 4, ...values)
    const [, , data, offset = 0, size] = seen as [unknown, number, Uint8Array | ArrayBuffer, number?, number?]
    const view = ArrayBuffer.isView(data) ? data : new Uint8Array(data)
    const end = size === undefined ? view.length : offset + size
    return { data: view.slice(offset, end), buffer: view.buffer }
  }

  it.each([
    ['a view', [shared.subarray(8, 16)], [8, 9, 10, 11, 12, 13, 14, 15]],
    ['a view and a part of it', [shared.subarray(8, 16), 2, 4], [10, 11, 12, 13]],
    ['elements of a wider view', [new Uint32Array(shared.buffer, 8), 1, 1], [12, 13, 14, 15]],
    ['whole memory from an offset', [shared.buffer, 28], [28, 29, 30, 31]],
    ['a DataView, in bytes', [new DataView(shared.buffer, 4), 4, 4], [8, 9, 10, 11]],
  ])('copies shared memory: %s', (_, values, expected) => {
    const { buffer, data } = upload(...values)
    expect(buffer).toBeInstanceOf(ArrayBuffer)
    expect([...data]).toEqual(expected)
  })

  it('passes other memory on as it is', () => {
    const own = Uint8Array.of(1, 2, 3, 4)
    const { buffer, data } = upload(own, 1, 2)
    expect(buffer).toBe(own.buffer)
    expect([...data]).toEqual([2, 3])
  })
})
