import type { ModelSpec } from '../../model/spec.ts'
import type { HeadLayout } from './head-layout.ts'
import { layerBuilder, type LayerBuilder } from './layers.ts'
import type { Graph, GraphValue } from './onnx-graph.ts'

/**
 * One transformer block as an ONNX graph, written so that a row's result has the same bits whatever else is in
 * the run:
 * - Every projection is a FusedMatMul with a constant weight [out, in]: onnxruntime packs it once, and the packed
 *   product sums along `in` in one fixed order for every number of rows. (A product of unpacked matrices has
 *   a different kernel for one row.)
 * - GroupQueryAttention has three kernels. Its flash kernels differ between one row and many and are slow in
 *   WebAssembly (no cache size is known there); a head sink makes it take the plain one. A sink of -Infinity adds
 *   e^-Infinity = 0 to the softmax's denominator, so it changes nothing else.
 * - The plain kernel multiplies probabilities by values as unpacked matrices, so one row is run as two: `filler`
 *   brings a second one, written to the cache after the row and overwritten by the next step.
 *
 * Experts are chosen outside: the graph of a block with experts ends at `attended`, `mlpInput` and `router`, and
 * each expert has a graph of its own, so that only chosen ones are computed.
 */

/** What a block's graph reads; `bias` with ALiBi only, `cos` and `sin` with rotary positions only. */
export type BlockInput =
  | 'hidden'
  | 'filler'
  | 'keys'
  | 'values'
  | 'last'
  | 'total'
  | 'cos'
  | 'sin'
  | 'bias'
  | 'sink'
  | 'rows'

/** What it writes; `out` of a block with experts is the residual stream after attention. */
export type BlockOutput = 'out' | 'mlpInput' | 'router' | 'newKeys' | 'newValues'

/** A graph whose runs pass values by these names. */
export interface BlockGraph extends Graph {
  readonly inputs: readonly (GraphValue & { readonly name: BlockInput })[]
  readonly outputs: readonly (GraphValue & { readonly name: BlockOutput })[]
}

/** The graph of block number `block` of `spec`; weights are named as `readBlock` names them. */
export function blockGraph(spec: ModelSpec, layout: HeadLayout, block: number): BlockGraph {
  const { hiddenSize, headCount, kvHeadCount, residual, mlp, biases, positions } = spec
  const { width } = layout
  const qkvWidth = (headCount + 2 * kvHeadCount) * width
  const rotary = positions.kind === 'rope'
  const layers = layerBuilder(spec)

  layers.norm('hidden', 'attentionNorm')
  layers.linear('attentionNorm', 'qkv', qkvWidth, hiddenSize, biases.qkv)
  if (spec.qkNorm) normHeads(layers, spec, width)
  layers.nodes.push(
    {
      op: 'Concat',
      inputs: [spec.qkNorm ? 'normedQkv' : 'qkv', 'filler'],
      outputs: ['filledQkv'],
      attributes: { axis: { int: 1 } },
    },
    {
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: rotary
        ? ['filledQkv', '', '', 'keys', 'values', 'last', 'total', 'cos', 'sin', '', '', 'sink']
        : ['filledQkv', '', '', 'keys', 'values', 'last', 'total', '', '', '', 'bias', 'sink'],
      outputs: ['filledAttention', 'newKeys', 'newValues'],
      attributes: {
        num_heads: { int: headCount },
        kv_num_heads: { int: kvHeadCount },
        // Not the default 1 / sqrt(width): the width may be padded.
        scale: { float: 1 / Math.sqrt(spec.headDim) },
        do_rotary: { int: rotary ? 1 : 0 },
        local_window_size: { int: spec.windows[block] ?? -1 },
      },
    },
    { op: 'Slice', inputs: ['filledAttention', 'zero', 'rows', 'one'], outputs: ['attention'] },
  )
  layers.linear('attention', 'o', hiddenSize, headCount * width, biases.attentionOut)
  const experts = mlp.kind === 'moe' ? mlp.expertCount : 0
  const attended = experts > 0 ? 'out' : 'attended'
  layers.add('hidden', 'o', attended)

  const sharedNorm = residual.kind === 'parallel' && residual.norms === 1
  if (!sharedNorm) layers.norm(residual.kind === 'parallel' ? 'hidden' : attended, 'mlpNorm')
  const normed = sharedNorm ? 'attentionNorm' : 'mlpNorm'
  if (experts > 0) {
    layers.nodes.push({ op: 'Identity', inputs: [normed], outputs: ['mlpInput'] })
    layers.linear(normed, 'router', experts, hiddenSize, false)
  } else {
    layers.mlp(normed, 'down')
    layers.add(attended, 'down', 'out')
  }

  const cache = [1, kvHeadCount, 'capacity', width]
  const float = <Name extends string>(name: Name, shape: GraphValue['shape']) =>
    ({ name, type: 'float', shape }) as const
  return {
    name: `block ${block}`,
    inputs: [
      float('hidden', [1, 'rows', hiddenSize]),
      float('filler', [1, 'fillerRows', qkvWidth]),
      float('keys', cache),
      float('values', cache),
      { name: 'last', type: 'int32', shape: [1] },
      { name: 'total', type: 'int32', shape: [] },
      ...(rotary
        ? [float('cos', ['positions', width / 2]), float('sin', ['positions', width / 2])]
        : [float('bias', [1, headCount, 'filledRows', 'context'])]),
      float('sink', [headCount]),
      { name: 'rows', type: 'int64', shape: [1] },
    ],
    outputs: [
      float('out', [1, 'rows', hiddenSize]),
      ...(experts > 0
        ? [float('mlpInput', [1, 'rows', hiddenSize]), float('router', [1, 'rows', experts])]
        : []),
      float('newKeys', cache),
      float('newValues', cache),
    ],
    nodes: layers.nodes,
    weights: layers.weights,
    constants: {
      zero: [0],
      one: [1],
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

/** One expert: normed rows `hidden` [rows, hiddenSize] to `down` of the same shape. */
export function expertGraph(spec: ModelSpec, block: number, expert: number): Graph {
  const layers = layerBuilder(spec)
  layers.mlp('hidden', 'down')
  return {
    name: `expert ${expert} of block ${block}`,
    inputs: [{ name: 'hidden', type: 'float', shape: ['rows', spec.hiddenSize] }],
    outputs: [{ name: 'down', type: 'float', shape: ['rows', spec.hiddenSize] }],
    nodes: layers.nodes,
    weights: layers.weights,
  }
}

/**
 * `qkv` to `normedQkv`: an RMSNorm of each query and key head. The means are taken over `width` slots, of which
 * width - headDim hold zeros; this epsilon and the factor of `readBlock`'s weights make up for it.
 */
export function normHeads(layers: LayerBuilder, spec: ModelSpec, width: number): void {
  const epsilon = (spec.norm.epsilon * spec.headDim) / width
  const headNorm = (name: 'q' | 'k') => ({
    op: 'SimplifiedLayerNormalization',
    inputs: [`${name}Heads`, layers.weight(`${name}Norm.weight`, [width])],
    outputs: [`${name}Normed`],
    attributes: { axis: { int: -1 }, epsilon: { float: epsilon } },
  })
  layers.nodes.push(
    { op: 'Reshape', inputs: ['qkv', 'heads'], outputs: ['qkvHeads'] },
    {
      op: 'Split',
      inputs: ['qkvHeads', 'headCounts'],
      outputs: ['qHeads', 'kHeads', 'vHeads'],
      attributes: { axis: { int: 2 } },
    },
    headNorm('q'),
    headNorm('k'),
    {
      op: 'Concat',
      inputs: ['qNormed', 'kNormed', 'vHeads'],
      outputs: ['normedHeads'],
      attributes: { axis: { int: 2 } },
    },
    { op: 'Reshape', inputs: ['normedHeads', 'flat'], outputs: ['normedQkv'] },
  )
}
