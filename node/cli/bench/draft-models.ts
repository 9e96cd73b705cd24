import { ChoraleError } from '../../../src/errors.ts'
import type { BlockRole, Model } from '../../../src/model/model.ts'
import { dequantize } from '../../../src/tensor/quant.ts'
import { quantize } from '../../../src/tensor/quantize.ts'
import type { WeightTensor } from '../../../src/tensor/weight.ts'
import { openModelArgument } from '../../open-model-argument.ts'

/** The first `count` blocks of a model, with its head: worse the fewer. @throws `bad_config` for more than it has. */
export function firstBlocks(model: Model, count: number): Model {
  const { blockCount, windows } = model.spec
  if (!(Number.isSafeInteger(count) && count >= 1 && count <= blockCount)) {
    throw new ChoraleError('bad_config', `${model.name} has 1 to ${blockCount} blocks to take, not ${count}`)
  }
  return {
    ...model,
    name: `first-${count}-of-${model.name}`,
    spec: { ...model.spec, blockCount: count, windows: windows.slice(0, count) },
    close: async () => undefined,
  }
}

/** A model whose blocks' matrices are rounded to 4 bits when they are read: it says nearly what the model says. */
export function fourBit(model: Model): Model {
  const isMatrix = ({ shape }: Pick<WeightTensor, 'shape'>) => shape.length === 2 && shape[1]! % 32 === 0
  const info = (block: number, role: BlockRole) => {
    const stored = model.weights.blockInfo(block, role)
    return isMatrix(stored) ? ({ ...stored, dtype: 'Q4_1' } as const) : stored
  }
  return {
    ...model,
    name: `4-bit-${model.name}`,
    weights: {
      ...model.weights,
      blockInfo: info,
      block: async (block, role, signal) => {
        const weight = await model.weights.block(block, role, signal)
        return isMatrix(weight)
          ? { ...info(block, role), bytes: quantize('Q4_1', dequantize(weight)) }
          : weight
      },
    },
    close: async () => undefined,
  }
}

/** Reads `--draft`: `none`, `q4`, `first:N` or a MODEL; what it gives is the caller's to close. Errors as `resolveModel`. */
export async function draftArgument(text: string, model: Model): Promise<Model | undefined> {
  if (text === 'none') return undefined
  if (text === 'q4') return fourBit(model)
  const first = /^first:(\d{1,5})$/.exec(text)
  return first ? firstBlocks(model, Number(first[1])) : await openModelArgument(text)
}
