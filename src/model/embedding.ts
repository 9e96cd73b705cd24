import { ChoraleError } from '../errors.ts'
import { dequantizeRows } from '../tensor/quant.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'
import type { Model } from './model.ts'

/** The client's table of token vectors. */
export interface Embedding {
  /** Bytes it holds in memory: the table as stored. */
  readonly weightBytes: number
  /** Hidden states [ids.length, hiddenSize] that enter block 0. @throws `bad_request` for an id outside the vocabulary. */
  gather(ids: ArrayLike<number>): Tensor
}

/** Reads a model's embedding and keeps it as stored; rows are converted when gathered. @throws `bad_file`, `not_found`. */
export async function loadEmbedding(
  model: Model,
  options: { signal?: AbortSignal } = {},
): Promise<Embedding> {
  const weight = await model.weights.client('embedding', options.signal)
  const { hiddenSize, vocabSize } = model.spec
  return {
    weightBytes: weight.bytes.length,
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
      return tensor(ids.length, hiddenSize, dequantizeRows(weight, ids))
    },
  }
}
