import { dequantize } from '../tensor/quant.ts'
import { byteLength } from '../tensor/weight.ts'
import type { ByteSource } from '../byte-source.ts'
import { type GgufFile, readGguf } from './gguf.ts'
import { readGgufConfig } from './gguf-config.ts'
import { ggufTokenizerFiles } from './gguf-tokenizer.ts'
import { modelId } from './model-id.ts'
import type { BlockRole, Model, WeightTensor } from './model.ts'
import type { ModelSpec } from './spec.ts'
import { readWeight } from './tensor-table.ts'
import { weightsByRole, type WeightTransform } from './weights.ts'

/**
 * Opens one GGUF file as a model. The source is closed with the model, and on failure.
 * @throws `bad_file`, `not_supported`.
 */
export async function openGguf(
  source: ByteSource,
  options: { readonly name: string; readonly signal?: AbortSignal },
): Promise<Model> {
  const { name, signal } = options
  try {
    const file = await readGguf(source, signal)
    const factors = file.tensors.get('rope_freqs.weight')
    const ropeFactors = factors === undefined ? undefined : dequantize(await readWeight(factors, signal))
    const { gguf, spec } = readGgufConfig(file, ropeFactors)
    return {
      name,
      id: await modelId(name, identity(file), file.tensors, signal),
      format: 'gguf',
      spec,
      weights: weightsByRole({
        modelName: name,
        spec,
        names: gguf.names,
        table: file.tensors,
        ...(gguf.interleavedRotary ? { transform: toHalfSplit(spec), sourceRow: interleavedRow(spec) } : {}),
      }),
      tokenizerFiles: async () => ggufTokenizerFiles(file),
      generationDefaults: {},
      close: async () => await source.close(),
    }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** What of the metadata makes a model another one: everything of the architecture, nothing of names and tokenizer. */
function identity(file: GgufFile): Record<string, unknown> {
  const architecture = `${String(file.metadata.get('general.architecture'))}.`
  return Object.fromEntries(
    [...file.metadata]
      .filter(([key]) => key === 'general.architecture' || key.startsWith(architecture))
      .map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value]),
  )
}

/** Puts the rows of q and k, which GGUF's Llama keeps as adjacent rotary pairs, in half-split order. */
function toHalfSplit(spec: ModelSpec): WeightTransform {
  return (role, weight) => {
    const isQuery = role === 'q' || role === 'qBias'
    if (!isQuery && role !== 'k' && role !== 'kBias') return weight
    return halfSplitRows(weight, isQuery ? spec.headCount : spec.kvHeadCount)
  }
}

/** Where a row of q or k that `toHalfSplit` moved was before. */
function interleavedRow(spec: ModelSpec): (role: BlockRole) => ((row: number) => number) | undefined {
  const { headDim } = spec
  const half = headDim / 2
  const sourceRow = (row: number): number => {
    const inHead = row % headDim
    return row - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1)
  }
  return (role) =>
    role === 'q' || role === 'k' || role === 'qBias' || role === 'kBias' ? sourceRow : undefined
}

/**
 * Row h·d + 2i + j of `weight` becomes row h·d + j·d/2 + i (d rows a head, j = 0, 1). Rows move whole, so that
 * quantised weights stay as they are.
 */
export function halfSplitRows(weight: WeightTensor, heads: number): WeightTensor {
  const [rows = 1] = weight.shape
  const rowBytes = byteLength(weight.dtype, weight.shape) / rows
  const headDim = rows / heads
  const bytes = new Uint8Array(weight.bytes.length)
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const to = row - inHead + (inHead % 2) * (headDim / 2) + (inHead >> 1)
    bytes.set(weight.bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return { ...weight, bytes }
}
