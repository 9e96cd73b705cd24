import type { ModelSpec } from '../../model/spec.ts'
import type { Graph, GraphNode, GraphWeight } from './onnx-graph.ts'
import type { HeadLayout } from './head-layout.ts'

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
 */

/** Graph inputs in the order runs pass them. */
export const BLOCK_INPUTS = [
  'hidden',
  'filler',
  'keys',
  'values',
  'last',
  'total',
  'cos',
  'sin',
  'sink',
  'rows',
] as const

/** The graph of a block of `spec`; weights are named as `readBlock` names them. */
export function blockGraph(spec: ModelSpec, layout: HeadLayout, name: string): Graph {
  const { hiddenSize, headCount, kvHeadCount, intermediateSize, norm, biases } = spec
  const { width } = layout
  const qkvWidth = (headCount + 2 * kvHeadCount) * width
  const cache = [1, kvHeadCount, 'capacity', width]
  const nodes: GraphNode[] = []
  const weights: GraphWeight[] = []

  const weight = (weightName: string, shape: readonly number[]): string => {
    weights.push({ name: weightName, shape })
    return weightName
  }
  const rmsNorm = (input: string, output: string): void => {
    nodes.push({
      op: 'SimplifiedLayerNormalization',
      inputs: [input, weight(`${output}.weight`, [hiddenSize])],
      outputs: [output],
      attributes: { axis: { int: -1 }, epsilon: { float: norm.epsilon } },
    })
  }
  const linear = (input: string, output: string, rows: number, columns: number, bias: boolean): void => {
    nodes.push({
      op: 'FusedMatMul',
      domain: 'com.microsoft',
      inputs: [input, weight(`${output}.weight`, [rows, columns])],
      outputs: [bias ? `${output}.product` : output],
      attributes: { transB: { int: 1 } },
    })
    if (bias) add(`${output}.product`, weight(`${output}.bias`, [rows]), output)
  }
  const add = (a: string, b: string, output: string): void => {
    nodes.push({ op: 'Add', inputs: [a, b], outputs: [output] })
  }

  rmsNorm('hidden', 'attentionNorm')
  linear('attentionNorm', 'qkv', qkvWidth, hiddenSize, biases.qkv)
  nodes.push(
    { op: 'Concat', inputs: ['qkv', 'filler'], outputs: ['filledQkv'], attributes: { axis: { int: 1 } } },
    {
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: ['filledQkv', '', '', 'keys', 'values', 'last', 'total', 'cos', 'sin', '', '', 'sink'],
      outputs: ['filledAttention', 'newKeys', 'newValues'],
      attributes: {
        num_heads: { int: headCount },
        kv_num_heads: { int: kvHeadCount },
        // Not the default 1 / sqrt(width): the width may be padded.
        scale: { float: 1 / Math.sqrt(spec.headDim) },
        do_rotary: { int: 1 },
      },
    },
    { op: 'Slice', inputs: ['filledAttention', 'zero', 'rows', 'one'], outputs: ['attention'] },
  )
  linear('attention', 'o', hiddenSize, headCount * width, biases.attentionOut)
  add('hidden', 'o', 'attended')
  rmsNorm('attended', 'mlpNorm')
  linear('mlpNorm', 'gateUp', 2 * intermediateSize, hiddenSize, biases.mlp)
  nodes.push(
    {
      op: 'Split',
      inputs: ['gateUp'],
      outputs: ['gate', 'up'],
      attributes: { axis: { int: -1 }, num_outputs: { int: 2 } },
    },
    // x * sigmoid(alpha * x): SiLU for alpha = 1.
    {
      op: 'QuickGelu',
      domain: 'com.microsoft',
      inputs: ['gate'],
      outputs: ['activated'],
      attributes: { alpha: { float: 1 } },
    },
    { op: 'Mul', inputs: ['activated', 'up'], outputs: ['gated'] },
  )
  linear('gated', 'down', hiddenSize, intermediateSize, biases.mlp)
  add('attended', 'down', 'out')

  return {
    name,
    inputs: [
      { name: 'hidden', type: 'float', shape: [1, 'rows', hiddenSize] },
      { name: 'filler', type: 'float', shape: [1, 'fillerRows', qkvWidth] },
      { name: 'keys', type: 'float', shape: cache },
      { name: 'values', type: 'float', shape: cache },
      { name: 'last', type: 'int32', shape: [1] },
      { name: 'total', type: 'int32', shape: [] },
      { name: 'cos', type: 'float', shape: ['positions', width / 2] },
      { name: 'sin', type: 'float', shape: ['positions', width / 2] },
      { name: 'sink', type: 'float', shape: [headCount] },
      { name: 'rows', type: 'int64', shape: [1] },
    ],
    outputs: [
      { name: 'out', type: 'float', shape: [1, 'rows', hiddenSize] },
      { name: 'newKeys', type: 'float', shape: cache },
      { name: 'newValues', type: 'float', shape: cache },
    ],
    nodes,
    weights,
    constants: { zero: [0], one: [1] },
  }
}
