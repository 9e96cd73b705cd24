import { ChoraleError } from '../errors.ts'
import { dequantize, dequantizeRows } from '../tensor/quant.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'
import type { Model } from './model.ts'

/** The client's table of token vectors. */
export interface Embedding {
  /** Bytes it holds in memory: the table as stored. */
  readonly weightBytes: number
  /** Hidden states [ids.length, hiddenSize] that enter block 0. @throws `bad_request` for an id outside the vocabulary. */
  gather(ids: ArrayLike<number>): Tensor
}

/**
 * Reads a model's embedding and keeps it as stored; rows are converted when gathered, and normed where the spec
 * has a norm on embeddings. @throws `bad_file`, `not_found`.
 */
export async function loadEmbedding(
  model: Model,
  options: { signal?: AbortSignal } = {},
): Promise<Embedding> {
  const weight = await model.weights.client('embedding', options.signal)
  const { embeddingNorm, hiddenSize, norm, vocabSize } = model.spec
  const read = async (role: 'embeddingNorm' | 'embeddingNormBias') =>
    dequantize(await model.weights.client(role, options.signal))
  const scale = embeddingNorm ? await read('embeddingNorm') : undefined
  const shift = embeddingNorm ? await read('embeddingNormBias') : undefined
  return {
    weightBytes: weight.bytes.length + (scale?.byteLength ?? 0) + (shift?.byteLength ?? 0),
    gather: (ids) => {
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i]
        if (id === undefined || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
          throw new ChoraleError(
            'bad_request',
            `token id ${id} outside ${model.name}'s vocabulary of ${vocabSize}`,
          )
        }
      }
      const vectors = dequantizeRows(weight, ids)
      if (scale !== undefined && shift !== undefined) layerNormRows(vectors, scale, shift, norm.epsilon)
      return tensor(ids.length, hiddenSize, vectors)
    },
  }
}

/** Layer norm of each row of x [rows, scale.length] in place, float64 sums. */
function layerNormRows(x: Float32Array, scale: Float32Array, shift: Float32Array, epsilon: number): void {
  const columns = scale.length
  for (let base = 0; base < x.length; base += columns) {
    const row = x.subarray(base, base + columns)
    const mean = row.reduce((sum, value) => sum + value, 0) / columns
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / columns
    const factor = 1 / Math.sqrt(variance + epsilon)
    for (let c = 0; c < columns; c++) {
      row[c] = ((row[c] as number) - mean) * factor * (scale[c] as number) + (shift[c] as number)
    }
  }
}
