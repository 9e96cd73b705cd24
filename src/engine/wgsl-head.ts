import { ChoraleError } from '../errors.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, type GpuOp, padded, rowsThatFit, strided } from '../gpu/context.ts'
import { createInTurn } from '../gpu/in-turn.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import { argmaxParts, createArgmax, readArgmax } from '../gpu/ops/argmax.ts'
import { createMatmul } from '../gpu/ops/matmul.ts'
import { createNorm } from '../gpu/ops/norm.ts'
import type { ClientRole, Model } from '../model/model.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { EngineHead, LoadOptions } from './engine.ts'
import { countProgress, loadMatrix, loadVector, type WeightSource } from './wgsl-weights.ts'

/** Bytes of logits kept on the device and read back at a time; more rows go in several turns. */
const LOGITS_BYTES = 8 * 2 ** 20
const MAX_ROWS = 64

/** Loads final norm and head onto the GPU. @throws `capacity`, `engine`, and what reading throws. */
export async function loadWgslHead(
  base: GpuContext,
  kernels: MatmulKernelSource,
  model: Model,
  options: LoadOptions,
): Promise<EngineHead> {
  const { spec } = model
  const owned = ownBuffers(base.buffers)
  const context: GpuContext = { ...base, buffers: owned }
  try {
    const source = (role: ClientRole): WeightSource => ({
      name: role,
      info: model.weights.clientInfo(role),
      read: () => model.weights.client(role, options.signal),
    })
    const biases = spec.norm.kind === 'layer' ? [source('finalNormBias')] : []
    const sources = [source('finalNorm'), source('head')] as const
    const onBytes = countProgress([...sources, ...biases], options)
    const weight = await loadVector(context, [sources[0]], onBytes)
    const bias = biases.length === 0 ? undefined : await loadVector(context, biases, onBytes)
    const matrix = await loadMatrix(context, [[sources[1]]], spec.hiddenSize, onBytes)
    const weightBytes = owned.allocatedBytes

    const most = Math.min(MAX_ROWS, Math.max(1, Math.floor(LOGITS_BYTES / (padded(spec.vocabSize) * 4))))
    const rowsAtOnce = rowsThatFit(context.device, most, Math.max(spec.vocabSize, spec.hiddenSize))
    const rowsOf = async (label: string, width: number, usage: number) =>
      await context.buffers.create(label, rowsAtOnce * padded(width) * 4, usage)
    const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource
    const hidden = await rowsOf('head input', spec.hiddenSize, usage)
    const normed = await rowsOf('head normed', spec.hiddenSize, usage)
    const logits = await rowsOf('logits', spec.vocabSize, usage)
    const staging = await rowsOf(
      'logits readback',
      Math.max(spec.vocabSize, spec.hiddenSize),
      USAGE.mapRead | USAGE.copyTarget,
    )
    const step = await context.buffers.create('head step', 16, USAGE.uniform | USAGE.copyTarget)
    const norm = await createNorm(context, {
      norm: spec.norm,
      width: spec.hiddenSize,
      input: hidden,
      weight,
      bias,
      output: normed,
    })
    const head = await createMatmul(context, { matrix, kernels, step, input: normed, output: logits })

    const parts = argmaxParts(spec.vocabSize)
    const partials = await rowsOf('best logits', 2 * parts, usage)
    const best = await createArgmax(context, { width: spec.vocabSize, input: logits, output: partials })

    const runSome = async (input: Float32Array, ops: readonly GpuOp[], result: GPUBuffer, width: number) => {
      const { device } = context
      const rows = input.length / spec.hiddenSize
      device.check()
      upload(device, step, 0, bytesOf(Uint32Array.of(rows, 0, 0, 0)))
      upload(device, hidden, 0, bytesOf(strided(input, spec.hiddenSize, padded(spec.hiddenSize))))
      const encoder = device.raw.createCommandEncoder()
      const pass = encoder.beginComputePass()
      for (const op of ops) op.encode(pass, rows, 1)
      pass.end()
      encoder.copyBufferToBuffer(result, 0, staging, 0, rows * padded(width) * 4)
      device.raw.queue.submit([encoder.finish()])
      const values = await readFloats(device, staging, rows * padded(width))
      device.check()
      return strided(values, padded(width), width)
    }

    const inTurn = createInTurn()
    let closed = false
    const run = (input: Tensor, ops: readonly GpuOp[], result: GPUBuffer, width: number) =>
      inTurn(async (): Promise<Tensor> => {
        if (closed) throw new ChoraleError('engine', 'the head was closed')
        const [rows, columns] = input.shape
        if (columns !== spec.hiddenSize) {
          throw new ChoraleError(
            'bad_request',
            `hidden states of ${columns} values; the model's hidden size is ${spec.hiddenSize}`,
          )
        }
        const data = new Float32Array(rows * width)
        for (let first = 0; first < rows; first += rowsAtOnce) {
          const last = Math.min(rows, first + rowsAtOnce)
          const some = input.data.subarray(first * columns, last * columns)
          data.set(await runSome(some, ops, result, width), first * width)
        }
        return { shape: [rows, width], data }
      })

    return {
      weightBytes,
      logits: (input) => run(input, [norm, head], logits, spec.vocabSize),
      async best(input) {
        const { data } = await run(input, [norm, head, best], partials, 2 * parts)
        return readArgmax(data, parts)
      },
      finalNorm: (input) => run(input, [norm], normed, spec.hiddenSize),
      close: () =>
        inTurn(async () => {
          if (!closed) owned.destroyAll()
          closed = true
        }),
    }
  } catch (error) {
    owned.destroyAll()
    throw error
  }
}
