import { messageWriter, type MessageWriter } from './protobuf.ts'

/**
 * An ONNX graph as data, and its bytes.
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */

/** Element types this engine uses, with ONNX's numbers. */
export const ONNX_TYPE = { float: 1, uint8: 2, int32: 6, int64: 7, float16: 10 } as const
export type OnnxType = keyof typeof ONNX_TYPE

/** Bytes of one element. */
export const ONNX_BYTES: Readonly<Record<OnnxType, number>> = {
  float: 4,
  uint8: 1,
  int32: 4,
  int64: 8,
  float16: 2,
}

/** A dimension: a number, or the name of one that varies from run to run. */
export type Dimension = number | string

export interface GraphValue {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly Dimension[]
}

export interface GraphNode {
  readonly op: string
  /** Empty for ONNX's own operators. */
  readonly domain?: 'com.microsoft'
  /** An empty name leaves an optional input out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, AttributeValue>>
}

export type AttributeValue =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly ints: readonly number[] }

/** A weight whose values are handed over beside the graph under `name`, not inside it. */
export interface GraphWeight {
  readonly name: string
  readonly shape: readonly number[]
  /** Default `float`. */
  readonly type?: OnnxType
}

export interface Graph {
  readonly name: string
  readonly inputs: readonly GraphValue[]
  readonly outputs: readonly GraphValue[]
  readonly nodes: readonly GraphNode[]
  readonly weights: readonly GraphWeight[]
  /** Small int64 constants, held in the graph. */
  readonly constants?: Readonly<Record<string, readonly number[]>>
}

/** IR 10 and opset 21: what onnxruntime 1.18 and later read. */
const IR_VERSION = 10
const OPSET_VERSION = 21
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const
const EXTERNAL = 1

/** The graph as a serialised `ModelProto` whose weights refer to external data of the same names. */
export function encodeGraph(graph: Graph): Uint8Array {
  const proto = messageWriter()
  for (const node of graph.nodes) proto.message(1, nodeProto(node))
  proto.string(2, graph.name)
  for (const weight of graph.weights) proto.message(5, weightProto(weight))
  for (const [name, values] of Object.entries(graph.constants ?? {}))
    proto.message(5, constantProto(name, values))
  for (const value of graph.inputs) proto.message(11, valueProto(value))
  for (const value of graph.outputs) proto.message(12, valueProto(value))

  return messageWriter()
    .integer(1, IR_VERSION)
    .string(2, 'chorale')
    .message(7, proto)
    .message(8, messageWriter().string(1, '').integer(2, OPSET_VERSION))
    .message(8, messageWriter().string(1, 'com.microsoft').integer(2, 1))
    .finish()
}

function nodeProto(node: GraphNode): MessageWriter {
  const proto = messageWriter()
  for (const input of node.inputs) proto.string(1, input)
  for (const output of node.outputs) proto.string(2, output)
  proto.string(4, node.op)
  for (const [name, value] of Object.entries(node.attributes ?? {}))
    proto.message(5, attributeProto(name, value))
  if (node.domain !== undefined) proto.string(7, node.domain)
  return proto
}

function attributeProto(name: string, value: AttributeValue): MessageWriter {
  const proto = messageWriter().string(1, name)
  if ('float' in value) return proto.float(2, value.float).integer(20, ATTRIBUTE_TYPE.float)
  if ('int' in value) return proto.integer(3, value.int).integer(20, ATTRIBUTE_TYPE.int)
  for (const item of value.ints) proto.integer(8, item)
  return proto.integer(20, ATTRIBUTE_TYPE.ints)
}

function weightProto(weight: GraphWeight): MessageWriter {
  const proto = messageWriter()
  for (const dimension of weight.shape) proto.integer(1, dimension)
  const type = weight.type ?? 'float'
  const bytes = weight.shape.reduce((product, dimension) => product * dimension, ONNX_BYTES[type])
  return proto
    .integer(2, ONNX_TYPE[type])
    .string(8, weight.name)
    .message(13, messageWriter().string(1, 'location').string(2, weight.name))
    .message(13, messageWriter().string(1, 'offset').string(2, '0'))
    .message(13, messageWriter().string(1, 'length').string(2, String(bytes)))
    .integer(14, EXTERNAL)
}

function constantProto(name: string, values: readonly number[]): MessageWriter {
  const proto = messageWriter().integer(1, values.length).integer(2, ONNX_TYPE.int64)
  for (const value of values) proto.integer(7, value)
  return proto.string(8, name)
}

function valueProto(value: GraphValue): MessageWriter {
  const shape = messageWriter()
  for (const dimension of value.shape) {
    const item = messageWriter()
    if (typeof dimension === 'number') item.integer(1, dimension)
    else item.string(2, dimension)
    shape.message(1, item)
  }
  const tensorType = messageWriter().integer(1, ONNX_TYPE[value.type]).message(2, shape)
  return messageWriter().string(1, value.name).message(2, messageWriter().message(1, tensorType))
}
