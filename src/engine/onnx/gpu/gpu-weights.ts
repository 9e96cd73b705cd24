import { joinBytes } from '../../../bytes.ts'
import type { BlockRole, Model, WeightTensor } from '../../../model/model.ts'
import type { ModelSpec } from '../../../model/spec.ts'
import { blockBytes } from '../../../tensor/weight.ts'
import { f16Table, f32ToBytes, f32ToF16 } from '../../../tensor/dtype.ts'
import { readBlock } from '../block-weights.ts'
import type { HeadLayout } from '../head-layout.ts'
import { type Quantized, QUANTIZED_GROUP } from '../layers.ts'
import type { Graph } from '../onnx-graph.ts'

/** What activations, and weights that are not quantised, are computed in. */
export type GpuPrecision = 'float' | 'float16'

/** Formats that stay quantised. */
const QUANTIZED: Readonly<Partial<Record<WeightTensor['dtype'], Quantized>>> = {
  Q4_0: { bits: 4, minima: false },
  Q4_1: { bits: 4, minima: true },
  Q8_0: { bits: 8, minima: false },
}

/** The roles stacked into each linear layer of a block's graph. */
function layerRoles(spec: ModelSpec): ReadonlyMap<string, readonly BlockRole[]> {
  const inner: readonly [string, readonly BlockRole[]] =
    spec.mlp.kind === 'plain' ? ['up', ['up']] : ['gateUp', ['gate', 'up']]
  return new Map([['qkv', ['q', 'k', 'v']], ['o', ['o']], inner, ['down', ['down']]])
}

/** Layers of a block whose weights stay quantised: all their parts in one such format. */
export function quantizedLayers(
  model: Model,
  layout: HeadLayout,
  block: number,
): ReadonlyMap<string, Quantized> {
  const found = new Map<string, Quantized>()
  for (const [layer, roles] of layerRoles(model.spec)) {
    // Heads that have to be rearranged: o's columns would cross groups.
    if (!layout.plain && (layer === 'qkv' || layer === 'o')) continue
    const dtypes = new Set(roles.map((role) => model.weights.blockInfo(block, role).dtype))
    const [dtype] = dtypes
    const quantized = dtype === undefined || dtypes.size > 1 ? undefined : QUANTIZED[dtype]
    if (quantized !== undefined) found.set(layer, quantized)
  }
  return found
}

/** Bytes of each weight of a block's graph, in the types the graph says. One stored tensor at a time is read. */
export async function readGpuBlock(
  model: Model,
  layout: HeadLayout,
  block: number,
  graph: Graph,
  quantized: ReadonlyMap<string, Quantized>,
  signal?: AbortSignal,
): Promise<Map<string, Uint8Array>> {
  const floats = await readBlock(model, layout, block, signal, new Set(quantized.keys()))
  const out = new Map<string, Uint8Array>()
  for (const { name, shape, type } of graph.weights) {
    const values = floats.get(name)
    if (values === undefined) continue
    floats.delete(name)
    const [columns, rows] = shape
    const laidOut = rows === undefined ? values : transpose(values, rows, columns as number)
    out.set(name, type === 'float16' ? f32ToF16(laidOut) : f32ToBytes(laidOut))
  }
  const half = graph.weights.some(({ name, type }) => name.endsWith('.scales') && type === 'float16')
  const roles = layerRoles(model.spec)
  for (const layer of quantized.keys()) {
    const stored: WeightTensor[] = []
    for (const role of roles.get(layer) ?? []) stored.push(await model.weights.block(block, role, signal))
    putGroups(out, layer, stored, half ? 'float16' : 'float')
  }
  return out
}

/** The weights of a quantised layer under the graph's names; `stored` are stacked. */
function putGroups(
  out: Map<string, Uint8Array>,
  layer: string,
  stored: readonly WeightTensor[],
  precision: GpuPrecision,
): void {
  const parts = stored.map(packGroups)
  const scales = joinBytes(parts.map((part) => part.scales))
  out.set(`${layer}.weight`, joinBytes(parts.map((part) => part.weights)))
  out.set(`${layer}.scales`, precision === 'float16' ? scales : halvesToFloats(scales))
  const minima = parts.flatMap((part) => part.minima ?? [])
  if (minima.length === 0) return
  const values = new Float32Array(joinBytes(minima.map(f32ToBytes)).buffer)
  const groups = (stored[0]?.shape[1] as number) / QUANTIZED_GROUP
  const turned = transpose(values, values.length / groups, groups)
  out.set(`${layer}.minima`, precision === 'float16' ? f32ToF16(turned) : f32ToBytes(turned))
}

/** Values of [rows, columns] as [columns, rows]. */
export function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length)
  // By tiles, so that reads and writes stay in the processor's cache.
  const TILE = 32
  for (let row0 = 0; row0 < rows; row0 += TILE) {
    for (let column0 = 0; column0 < columns; column0 += TILE) {
      for (let row = row0; row < Math.min(rows, row0 + TILE); row++) {
        for (let column = column0; column < Math.min(columns, column0 + TILE); column++) {
          out[column * rows + row] = values[row * columns + column] as number
        }
      }
    }
  }
  return out
}

/** Integers as MatMulNBits wants them, and float16 scales, one a group. */
export interface PackedGroups {
  readonly weights: Uint8Array
  readonly scales: Uint8Array
  /** What a group's weights are besides (integer - 8) * scale; formats with minima only. */
  readonly minima?: Float32Array
}

/**
 * Q4_0, Q4_1 or Q8_0 blocks as MatMulNBits reads them: integers unsigned with the zero in the middle; 4-bit ones in order,
 * the first in the low half (GGUF keeps the upper 16 of a block in the high halves).
 */
export function packGroups(weight: WeightTensor): PackedGroups {
  const { bytes, dtype } = weight
  const size = blockBytes(dtype)
  const four = dtype !== 'Q8_0'
  const header = dtype === 'Q4_1' ? 4 : 2
  const packedBytes = size - header
  const blocks = bytes.length / size
  const weights = new Uint8Array(blocks * packedBytes)
  const scales = new Uint8Array(blocks * 2)
  const minima = dtype === 'Q4_1' ? new Float32Array(blocks) : undefined
  const halves = f16Table()
  const half = (at: number) => halves[(bytes[at] as number) | ((bytes[at + 1] as number) << 8)] as number
  for (let block = 0; block < blocks; block++) {
    const at = block * size
    const from = at + header
    const to = block * packedBytes
    scales[block * 2] = bytes[at] as number
    scales[block * 2 + 1] = bytes[at + 1] as number
    if (minima !== undefined) minima[block] = half(at + 2) + 8 * half(at)
    if (four) {
      for (let j = 0; j < 8; j++) {
        const [a, b] = [bytes[from + 2 * j] as number, bytes[from + 1 + 2 * j] as number]
        weights[to + j] = (a & 15) | ((b & 15) << 4)
        weights[to + 8 + j] = (a >> 4) | (b & 0xf0)
      }
    } else {
      for (let j = 0; j < QUANTIZED_GROUP; j++) weights[to + j] = (bytes[from + j] as number) ^ 0x80
    }
  }
  return minima === undefined ? { weights, scales } : { weights, scales, minima }
}

/** A slice of a head under the names of layer `out`; undefined for formats that are not kept quantised. */
export function packHead(
  weight: WeightTensor,
  precision: GpuPrecision,
): { readonly quantized: Quantized; readonly weights: Map<string, Uint8Array> } | undefined {
  const quantized = QUANTIZED[weight.dtype]
  if (quantized === undefined) return undefined
  const weights = new Map<string, Uint8Array>()
  putGroups(weights, 'out', [weight], precision)
  return { quantized, weights }
}

function halvesToFloats(bytes: Uint8Array): Uint8Array {
  const table = f16Table()
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  return f32ToBytes(Float32Array.from(halves, (half) => table[half] as number))
}
