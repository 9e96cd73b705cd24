import { ChoraleError } from '../../errors.ts'
import type { Model } from '../../model/model.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import type { EngineHead, LoadOptions } from '../engine.ts'
import {
  BEST_BYTES,
  BEST_ID,
  BEST_SPOILED,
  BEST_VALUE,
  HEAD_BEST,
  HEAD_BYTES,
  HEAD_EPSILON,
  HEAD_HIDDEN,
  HEAD_HIDDEN_SIZE,
  HEAD_HIDDEN_STRIDE,
  HEAD_LOGITS,
  HEAD_LOGITS_STRIDE,
  HEAD_MATRIX,
  HEAD_NORM,
  HEAD_NORM_BIAS,
  HEAD_NORMS,
  HEAD_PREPARED,
  HEAD_PREPARED_ROUNDED,
  HEAD_PRIVATE,
  HEAD_PRIVATE_BYTES,
  HEAD_ROW_COUNT,
  HEAD_SCREENED,
  HEAD_VOCABULARY,
  KIND_Q8_F16,
  KIND_Q8_F32,
  KIND_Q8_HALF_F32,
  KIND_WIDE,
  OCTET,
  OPERATION_HEAD,
  ROUNDED_BYTES_PER_VALUE,
  SCREENED_BYTES_PER_VALUE,
} from './layout.ts'
import { createArena } from './linear-memory.ts'
import { createRecord, storeMatrix, storeVector } from './records.ts'
import { padTo, privateRowBytes } from './scratch.ts'
import type { WasmRuntime } from './runtime.ts'

/** Rows of logits computed together: bounds scratch (16 rows of a vocabulary of 128 Ki are 8 MiB). */
const MAX_ROWS = 16

/** Kinds that `kernels/screen.ts` knows, with activations of 8 and of 15 bits: no minima, whose sums can't be screened. */
const SCREENED = [KIND_Q8_F16, KIND_Q8_F32, KIND_Q8_HALF_F32]

/** Final norm and head in linear memory. @throws `capacity` when 4 GiB do not hold them. */
export async function loadWasmHead(
  runtime: WasmRuntime,
  model: Model,
  options: LoadOptions,
): Promise<EngineHead> {
  const { memory } = runtime
  const { hiddenSize, norm, vocabSize } = model.spec
  const arena = createArena(memory)
  try {
    const normWeight = storeVector(memory, arena, await model.weights.client('finalNorm', options.signal))
    const normBias =
      norm.kind === 'layer'
        ? storeVector(memory, arena, await model.weights.client('finalNormBias', options.signal))
        : { address: 0, bytes: 0 }
    const matrix = storeMatrix(
      memory,
      arena,
      await model.weights.client('head', options.signal),
      undefined,
      runtime.wide,
    )
    const weightBytes = normWeight.bytes + normBias.bytes + matrix.bytes
    options.onProgress?.(weightBytes, weightBytes)
    const hiddenStride = padTo(hiddenSize, OCTET)
    const logitsStride = padTo(vocabSize, OCTET)
    const privateBytes = padTo(privateRowBytes(hiddenStride, hiddenStride), 64)
    const record = createRecord(memory, arena, HEAD_BYTES)
    const scratch = (offset: number, bytes: number): number => {
      const address = arena.allocate(bytes, 'scratch')
      record.integer(offset, address)
      return address
    }
    record.integer(HEAD_HIDDEN_SIZE, hiddenSize)
    record.float(HEAD_EPSILON, norm.epsilon)
    record.integer(HEAD_NORM, normWeight.address)
    record.integer(HEAD_NORM_BIAS, normBias.address)
    record.integer(HEAD_MATRIX, matrix.address)
    record.integer(HEAD_HIDDEN_STRIDE, hiddenStride)
    record.integer(HEAD_LOGITS_STRIDE, logitsStride)
    record.integer(HEAD_PRIVATE_BYTES, privateBytes)
    const input = scratch(HEAD_HIDDEN, MAX_ROWS * hiddenStride * 4)
    const prepared = scratch(HEAD_PREPARED, MAX_ROWS * hiddenStride * 4)
    scratch(HEAD_PREPARED_ROUNDED, MAX_ROWS * hiddenStride * ROUNDED_BYTES_PER_VALUE)
    scratch(HEAD_PRIVATE, runtime.threads * privateBytes)
    const logits = scratch(HEAD_LOGITS, MAX_ROWS * logitsStride * 4)
    record.integer(HEAD_VOCABULARY, vocabSize)
    if (SCREENED.includes(matrix.kind & ~KIND_WIDE)) {
      const norms = scratch(HEAD_NORMS, logitsStride * 4)
      runtime.rowNorms(matrix.address, norms)
      scratch(HEAD_SCREENED, runtime.threads * MAX_ROWS * hiddenSize * SCREENED_BYTES_PER_VALUE)
    }
    const bestBytes = runtime.threads * MAX_ROWS * BEST_BYTES
    const best = arena.allocate(bestBytes, 'scratch')
    const noBest = clearedBests(bestBytes)
    let closed = false

    /** Calls `run` with pieces of `hidden`'s rows that lie ready in linear memory. */
    const eachPiece = (hidden: Tensor, run: (first: number, count: number) => void): void => {
      if (closed) throw new ChoraleError('engine', `the head of ${model.name} was closed`)
      const [rows, columns] = hidden.shape
      if (columns !== hiddenSize || hidden.data.length !== rows * columns) {
        throw new ChoraleError(
          'bad_request',
          `hidden states of ${columns} values; the model's hidden size is ${hiddenSize}`,
        )
      }
      for (let first = 0; first < rows; first += MAX_ROWS) {
        const count = Math.min(MAX_ROWS, rows - first)
        for (let row = 0; row < count; row++) {
          const data = hidden.data.subarray((first + row) * columns, (first + row + 1) * columns)
          memory.floats(input + row * hiddenStride * 4, columns).set(data)
        }
        record.integer(HEAD_ROW_COUNT, count)
        run(first, count)
      }
    }

    /** Collects `width` values a row from `from` after `compute` ran. */
    const inPieces = (
      hidden: Tensor,
      compute: () => void,
      from: number,
      stride: number,
      width: number,
    ): Tensor => {
      const rows = hidden.shape[0]
      let out: Float32Array | undefined
      eachPiece(hidden, (first, count) => {
        compute()
        if (count === rows && stride === width) {
          // Megabytes of logits: a plain copy need not be zeroed first.
          out = memory.floats(from, rows * width).slice()
          return
        }
        out ??= new Float32Array(rows * width)
        for (let row = 0; row < count; row++) {
          out.set(memory.floats(from + row * stride * 4, width), (first + row) * width)
        }
      })
      return tensor(rows, width, out ?? new Float32Array(0))
    }

    /** The best of row `row` of `count` rows among the threads' best; -1 when a logit was not finite. */
    const bestOf = (row: number, count: number): number => {
      let value = -Infinity
      let id = -1
      for (let thread = 0; thread < runtime.threads; thread++) {
        const address = best + (thread * count + row) * BEST_BYTES
        const [other] = memory.floats(address + BEST_VALUE, 1) as unknown as [number]
        const [otherId] = memory.integers(address + BEST_ID, 1) as unknown as [number]
        if (memory.integers(address + BEST_SPOILED, 1)[0] !== 0) return -1
        if (other < value || (other === value && otherId > id)) continue
        value = other
        id = otherId
      }
      return id
    }

    return {
      weightBytes,
      async logits(hidden) {
        record.integer(HEAD_BEST, 0)
        const compute = () => runtime.run(OPERATION_HEAD, record.address)
        return inPieces(hidden, compute, logits, logitsStride, vocabSize)
      },
      async best(hidden) {
        const ids = new Int32Array(hidden.shape[0])
        record.integer(HEAD_BEST, best)
        eachPiece(hidden, (first, count) => {
          memory.bytes(best, bestBytes).set(noBest)
          runtime.run(OPERATION_HEAD, record.address)
          for (let row = 0; row < count; row++) ids[first + row] = bestOf(row, count)
        })
        return ids
      },
      async finalNorm(hidden) {
        const compute = () => runtime.finalNorm(record.address)
        return inPieces(hidden, compute, prepared, hiddenStride, hiddenSize)
      },
      async close() {
        if (closed) return
        closed = true
        arena.close()
      },
    }
  } catch (error) {
    arena.close()
    throw error
  }
}

/** Best records before the first logit: none is as low, and of equal ones the lowest id is the best. */
function clearedBests(bytes: number): Uint8Array {
  const records = new DataView(new ArrayBuffer(bytes))
  for (let at = 0; at < bytes; at += BEST_BYTES) {
    records.setFloat32(at + BEST_VALUE, -Infinity, true)
    records.setInt32(at + BEST_ID, 0x7fffffff, true)
  }
  return new Uint8Array(records.buffer)
}
