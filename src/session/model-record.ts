import type { Model } from '../model/model.ts'
import type { ModelRecord } from '../routing/snapshot.ts'

/** What a server tells the network of the model whose blocks it holds. */
export function modelRecordOf(model: Model): ModelRecord {
  const { blockCount, hiddenSize } = model.spec
  return {
    modelId: model.id,
    name: model.name,
    blockCount,
    hiddenSize,
    ...(model.revision !== undefined && { revision: model.revision }),
    precision: model.weights.blockInfo(0, 'q').dtype,
  }
}
