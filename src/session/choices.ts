import type { SampledToken } from '../sampling/options.ts'
import type { Sampler } from '../sampling/sampler.ts'
import { rows, type Tensor } from '../tensor/tensor.ts'
import type { BatchedHead } from './head-batch.ts'

/**
 * What chooses the token of each row of `output` [rows, hiddenSize], which left the last block. Greedy answers leave it to the head,
 * unless a logit is not finite: then the sampler says which. Rows are to be chosen in order; the sampler remembers them.
 */
export async function choices(
  head: BatchedHead,
  sampler: Sampler,
  output: Tensor,
): Promise<(row: number, position: number) => SampledToken> {
  if (sampler.greedy) {
    const ids = await head.best(output)
    if (!ids.includes(-1)) {
      return (row) => {
        const id = ids[row] as number
        sampler.accept(id)
        return { id, logprob: undefined, topLogprobs: [] }
      }
    }
  }
  const logits = await head.logits(output)
  return (row, position) => sampler.sample(rows(logits, row, row + 1).data, position)
}
