import type { ModelSpec } from '../../model/spec.ts'
import type { AttributeValue, GraphNode, GraphWeight } from './onnx-graph.ts'

/** A graph's nodes and weights while it is put together; a layer's weights are named after its output. */
export interface LayerBuilder {
  readonly nodes: GraphNode[]
  readonly weights: GraphWeight[]
  /** Small int64 constants that the nodes refer to. */
  readonly constants: Record<string, readonly number[]>
  weight(name: string, shape: readonly number[]): string
  /** The spec's norm over rows of hiddenSize: `output.weight` and, of a layer norm, `output.bias`. */
  norm(input: string, output: string): void
  /** Rows times `output.weight` [rows, columns] transposed, plus `output.bias` when there is one. */
  linear(input: string, output: string, rows: number, columns: number, bias: boolean): void
  add(a: string, b: string, output: string): void
  /** The mlp of the spec, or one expert of it, from normed rows: weights `gateUp` or `up`, and `down`. */
  mlp(input: string, output: 'down'): void
}

/** How a builder's weights are stored; by default all float32 and linear layers [rows, columns]. */
export interface WeightStorage {
  /** Of activations and all weights but quantised ones. */
  readonly type: 'float' | 'float16'
  /** How a linear layer's weights are quantised, or undefined: then they are kept transposed, [columns, rows]. */
  readonly quantized: (layer: string) => Quantized | undefined
  /** MatMulNBits' `accuracy_level`: 0 as the input's type, 4 lets it round activations to 8 bits. */
  readonly accuracyLevel: 0 | 4
}

/** Integers in groups of 32 with a scale a group, as onnxruntime's MatMulNBits takes them. */
export interface Quantized {
  readonly bits: 4 | 8
  /** Groups have minima, too. MatMulNBits has none: they are multiplied with the sums of each group's inputs. */
  readonly minima: boolean
}

/** Weights that share a scale. */
export const QUANTIZED_GROUP = 32

/** A builder of layers of `spec`. */
export function layerBuilder(spec: ModelSpec, storage?: WeightStorage): LayerBuilder {
  const { hiddenSize, intermediateSize, norm, biases } = spec
  const type = storage?.type ?? 'float'
  const nodes: GraphNode[] = []
  const weights: GraphWeight[] = []
  const constants: Record<string, readonly number[]> = {}

  const builder: LayerBuilder = {
    nodes,
    weights,
    constants,
    weight(name, shape) {
      weights.push({ name, shape, type })
      return name
    },
    norm(input, output) {
      const weight = builder.weight(`${output}.weight`, [hiddenSize])
      const bias = norm.kind === 'layer' ? [builder.weight(`${output}.bias`, [hiddenSize])] : []
      nodes.push({
        op: norm.kind === 'layer' ? 'LayerNormalization' : 'SimplifiedLayerNormalization',
        inputs: [input, weight, ...bias],
        outputs: [output],
        attributes: { axis: { int: -1 }, epsilon: { float: norm.epsilon } },
      })
    },
    linear(input, output, rows, columns, bias) {
      const product = bias ? `${output}.product` : output
      const quantized = storage?.quantized(output)
      if (quantized !== undefined) quantizedLinear(input, output, product, rows, columns, quantized)
      else if (storage !== undefined) {
        const weight = builder.weight(`${output}.weight`, [columns, rows])
        nodes.push({ op: 'MatMul', inputs: [input, weight], outputs: [product] })
      } else {
        nodes.push({
          op: 'FusedMatMul',
          domain: 'com.microsoft',
          inputs: [input, builder.weight(`${output}.weight`, [rows, columns])],
          outputs: [product],
          attributes: { transB: { int: 1 } },
        })
      }
      if (bias) builder.add(`${output}.product`, builder.weight(`${output}.bias`, [rows]), output)
    },
    add(a, b, output) {
      nodes.push({ op: 'Add', inputs: [a, b], outputs: [output] })
    },
    mlp(input, output) {
      const bias = biases.mlp && spec.mlp.kind !== 'moe'
      if (spec.mlp.kind === 'plain') {
        builder.linear(input, 'up', intermediateSize, hiddenSize, bias)
        nodes.push(activation(spec, 'up', 'inner'))
      } else {
        builder.linear(input, 'gateUp', 2 * intermediateSize, hiddenSize, bias)
        nodes.push(
          {
            op: 'Split',
            inputs: ['gateUp'],
            outputs: ['gate', 'up'],
            attributes: { axis: { int: -1 }, num_outputs: { int: 2 } },
          },
          activation(spec, 'gate', 'activated'),
          { op: 'Mul', inputs: ['activated', 'up'], outputs: ['inner'] },
        )
      }
      builder.linear('inner', output, hiddenSize, intermediateSize, bias)
    },
  }
  function quantizedLinear(
    input: string,
    layer: string,
    output: string,
    rows: number,
    columns: number,
    { bits, minima }: Quantized,
  ): void {
    const groups = columns / QUANTIZED_GROUP
    const scaled = minima ? `${layer}.scaled` : output
    if (minima) {
      const grouped = `groups of ${columns}`
      constants[grouped] = [1, -1, groups, QUANTIZED_GROUP]
      constants['last axis'] = [3]
      nodes.push(
        { op: 'Reshape', inputs: [input, grouped], outputs: [`${layer}.groups`] },
        {
          op: 'ReduceSum',
          inputs: [`${layer}.groups`, 'last axis'],
          outputs: [`${layer}.sums`],
          attributes: { keepdims: { int: 0 } },
        },
        {
          op: 'MatMul',
          inputs: [`${layer}.sums`, builder.weight(`${layer}.minima`, [groups, rows])],
          outputs: [`${layer}.offset`],
        },
      )
    }
    const packed = { name: `${layer}.weight`, shape: [rows, groups, bits * 4], type: 'uint8' } as const
    weights.push(packed)
    nodes.push({
      op: 'MatMulNBits',
      domain: 'com.microsoft',
      inputs: [input, packed.name, builder.weight(`${layer}.scales`, [rows * groups])],
      outputs: [scaled],
      attributes: {
        K: { int: columns },
        N: { int: rows },
        block_size: { int: QUANTIZED_GROUP },
        bits: { int: bits },
        accuracy_level: { int: storage?.accuracyLevel ?? 0 },
      },
    })
    if (minima) builder.add(scaled, `${layer}.offset`, output)
  }
  return builder
}

const ACTIVATIONS: Readonly<
  Record<ModelSpec['activation'], { op: string; attributes?: Record<string, AttributeValue> }>
> = {
  // x * sigmoid(alpha * x): SiLU for alpha = 1.
  silu: { op: 'QuickGelu', attributes: { alpha: { float: 1 } } },
  gelu: { op: 'Gelu' },
  'gelu-tanh': { op: 'FastGelu' },
}

function activation(spec: ModelSpec, input: string, output: string): GraphNode {
  return { ...ACTIVATIONS[spec.activation], domain: 'com.microsoft', inputs: [input], outputs: [output] }
}
