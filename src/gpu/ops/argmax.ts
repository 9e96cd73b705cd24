import { bind, type GpuContext, type GpuOp, padded } from '../context.ts'

export interface ArgmaxOptions {
  /** Values in a row; rows are padded. */
  width: number
  input: GPUBuffer
  /** Rows of `argmaxParts(width)` pairs of words, padded, for `readArgmax`. */
  output: GPUBuffer
}

/** Values a workgroup goes through at least: 32 a lane. */
const LEAST_SPAN = 2048
/** Parts at most: the host compares them. */
const MAX_PARTS = 64

/** Parts that rows of `width` values are cut into. */
export function argmaxParts(width: number): number {
  return Math.min(MAX_PARTS, Math.ceil(width / LEAST_SPAN))
}

/** `argmax.wgsl`: the highest value of each part of each row, and where it is. */
export async function createArgmax(context: GpuContext, options: ArgmaxOptions): Promise<GpuOp> {
  const kernel = await context.pipelines.get({
    shader: 'argmax.wgsl',
    bindings: ['uniform', 'read', 'write'],
  })
  const { input, output, width } = options
  const parts = argmaxParts(width)
  const params = await context.uniform(
    Uint32Array.of(width, padded(width), Math.ceil(width / parts), padded(2 * parts) / 2),
  )
  const group = bind(context, kernel, [params, input, output])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(parts, rows)
    },
  }
}

/** Where the highest value of each row is, lowest place on ties; -1 where one is not finite. `output`: the op's, without padding. */
export function readArgmax(output: Float32Array, parts: number): Int32Array {
  const words = new Uint32Array(output.buffer, output.byteOffset, output.length)
  return Int32Array.from({ length: output.length / (2 * parts) }, (_, row) => {
    let best = -1
    let highest = Number.NEGATIVE_INFINITY
    for (let part = 0; part < parts; part++) {
      const at = 2 * (row * parts + part)
      const place = words[at + 1] as number
      if (place === SPOILED) return -1
      // A last part may be empty when the row's end comes before it.
      if (place === NONE || (output[at] as number) <= highest) continue
      highest = output[at] as number
      best = place
    }
    return best
  })
}

/** As in the kernel: a part with nothing in it, and one with a value that is not finite. */
const NONE = 0xfffffffe
const SPOILED = 0xffffffff
