import type { ModelSpec } from '../../../model/spec.ts'
import { normHeads } from '../block-graph.ts'
import type { HeadLayout } from '../head-layout.ts'
import { layerBuilder, type WeightStorage } from '../layers.ts'
import type { Graph, GraphValue } from '../onnx-graph.ts'

/**
 * One transformer block for the WebGPU provider: weights stay quantised (MatMulNBits), GroupQueryAttention appends to
 * the cache in place. Unlike the graph for the CPU it does not make a row's bits independent of the others: the
 * provider has one kernel for a single row and others for many.
 *
 * Inputs: `hidden` [1, rows, hiddenSize]; `keys`, `values` [1, kvHeads, capacity, width]; `last` and `total` int32,
 * tokens in the cache after this run, less one, and not; `cos`, `sin` [positions, width / 2]. Outputs: `out` and the
 * cache again. Blocks with experts or linear biases have no such graph: the caller checks.
 */
export function gpuBlockGraph(
  spec: ModelSpec,
  layout: HeadLayout,
  block: number,
  storage: WeightStorage,
): Graph {
  const { hiddenSize, headCount, kvHeadCount, residual, biases, positions } = spec
  const { width } = layout
  const { type } = storage
  const rotary = positions.kind === 'rope'
  const layers = layerBuilder(spec, storage)

  layers.norm('hidden', 'attentionNorm')
  const qkvWidth = (headCount + 2 * kvHeadCount) * width
  layers.linear('attentionNorm', 'qkv', qkvWidth, hiddenSize, biases.qkv)
  if (spec.qkNorm) normHeads(layers, spec, width)
  const query = spec.qkNorm ? 'normedQkv' : 'qkv'
  layers.nodes.push({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [query, '', '', 'keys', 'values', 'last', 'total', ...(rotary ? ['cos', 'sin'] : [])],
    outputs: ['attention', 'newKeys', 'newValues'],
    attributes: {
      num_heads: { int: headCount },
      kv_num_heads: { int: kvHeadCount },
      // Not the default 1 / sqrt(width): the width may be padded.
      scale: { float: 1 / Math.sqrt(spec.headDim) },
      do_rotary: { int: rotary ? 1 : 0 },
      local_window_size: { int: spec.windows[block] ?? -1 },
    },
  })
  layers.linear('attention', 'o', hiddenSize, headCount * width, biases.attentionOut)
  layers.add('hidden', 'o', 'attended')
  const sharedNorm = residual.kind === 'parallel' && residual.norms === 1
  if (!sharedNorm) layers.norm(residual.kind === 'parallel' ? 'hidden' : 'attended', 'mlpNorm')
  layers.mlp(sharedNorm ? 'attentionNorm' : 'mlpNorm', 'down')
  layers.add('attended', 'down', 'out')

  const cache = [1, kvHeadCount, 'capacity', width]
  const value = (name: string, shape: GraphValue['shape']): GraphValue => ({ name, type, shape })
  const table = ['positions', width / 2]
  return {
    name: `block ${block}`,
    inputs: [
      value('hidden', [1, 'rows', hiddenSize]),
      value('keys', cache),
      value('values', cache),
      { name: 'last', type: 'int32', shape: [1] },
      { name: 'total', type: 'int32', shape: [] },
      ...(rotary ? [value('cos', table), value('sin', table)] : []),
    ],
    outputs: [value('out', [1, 'rows', hiddenSize]), value('newKeys', cache), value('newValues', cache)],
    nodes: layers.nodes,
    weights: layers.weights,
    constants: {
      ...layers.constants,
      ...(spec.qkNorm
        ? {
            heads: [1, -1, headCount + 2 * kvHeadCount, width],
            headCounts: [headCount, kvHeadCount, kvHeadCount],
            flat: [1, -1, qkvWidth],
          }
        : {}),
    },
  }
}
