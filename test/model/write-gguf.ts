/** Writes GGUF files, right ones and wrong ones. */

type Value =
  | {
      readonly type: 'u8' | 'u32' | 'i32' | 'f32' | 'bool' | 'u64' | 'f64'
      readonly value: number | bigint | boolean
    }
  | { readonly type: 'string'; readonly value: string }
  | {
      readonly type: 'array'
      readonly of: Value['type']
      readonly value: readonly (string | number | Value)[]
    }

const TYPE_NUMBERS = {
  u8: 0,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  f64: 12,
} as const

export const u32 = (value: number): Value => ({ type: 'u32', value })
export const f32 = (value: number): Value => ({ type: 'f32', value })
export const text = (value: string): Value => ({ type: 'string', value })
export const flag = (value: boolean): Value => ({ type: 'bool', value })
export const list = (of: Value['type'], value: readonly (string | number | Value)[]): Value => ({
  type: 'array',
  of,
  value,
})

export interface GgufTensor {
  readonly name: string
  /** Outermost first, as everywhere here. */
  readonly shape: readonly number[]
  readonly type?: number
  readonly bytes: Uint8Array
  /** Instead of where it lies. */
  readonly offset?: number
}

export interface GgufParts {
  readonly magic?: string
  readonly version?: number
  readonly metadata?: readonly (readonly [string, Value])[]
  readonly tensors?: readonly GgufTensor[]
  readonly keyCount?: bigint
  readonly tensorCount?: bigint
  /** How tensors are placed; default 32. */
  readonly alignment?: number
}

export function writeGguf(parts: GgufParts): Uint8Array {
  const { alignment = 32, metadata = [], tensors = [] } = parts
  const out: number[] = []
  const bytes = (buffer: ArrayBuffer) => out.push(...new Uint8Array(buffer))
  const int = (value: number) => bytes(Uint32Array.of(value).buffer)
  const long = (value: number | bigint) => bytes(BigUint64Array.of(BigInt(value)).buffer)
  const string = (value: string) => {
    const utf8 = new TextEncoder().encode(value)
    long(utf8.length)
    for (const byte of utf8) out.push(byte)
  }
  const put = (value: Value): void => {
    if (value.type === 'string') string(value.value)
    else if (value.type === 'array') {
      int(TYPE_NUMBERS[value.of])
      long(value.value.length)
      for (const item of value.value) {
        put(typeof item === 'object' ? item : ({ type: value.of, value: item } as Value))
      }
    } else if (value.type === 'u64') long(value.value as bigint)
    else if (value.type === 'f32') bytes(Float32Array.of(Number(value.value)).buffer)
    else if (value.type === 'f64') bytes(Float64Array.of(Number(value.value)).buffer)
    else if (value.type === 'u8' || value.type === 'bool') out.push(Number(value.value))
    else int(Number(value.value))
  }
  for (const char of parts.magic ?? 'GGUF') out.push(char.charCodeAt(0))
  int(parts.version ?? 3)
  long(parts.tensorCount ?? tensors.length)
  long(parts.keyCount ?? metadata.length)
  for (const [key, value] of metadata) {
    string(key)
    int(TYPE_NUMBERS[value.type])
    put(value)
  }
  let end = 0
  const places = tensors.map((tensor) => {
    const at = Math.ceil(end / alignment) * alignment
    end = at + tensor.bytes.length
    return at
  })
  tensors.forEach(({ name, offset, shape, type }, i) => {
    string(name)
    int(shape.length)
    for (const size of [...shape].reverse()) long(size)
    int(type ?? 0)
    long(offset ?? places[i] ?? 0)
  })
  const dataStart = Math.ceil(out.length / alignment) * alignment
  const file = new Uint8Array(tensors.length === 0 ? out.length : dataStart + end)
  file.set(out)
  tensors.forEach((tensor, i) => file.set(tensor.bytes, dataStart + (places[i] ?? 0)))
  return file
}

/** Metadata and tensors of a Llama of one block: hidden 8, 2 heads of 4, 1 key/value head, 5 tokens. */
export function tinyLlama(): { metadata: [string, Value][]; tensors: GgufTensor[] } {
  let seed = 1
  const f32Tensor = (name: string, ...shape: number[]): GgufTensor => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed / 2_147_483_647 - 0.5
    })
    return { name, shape, bytes: new Uint8Array(values.buffer) }
  }
  return {
    metadata: [
      ['general.architecture', text('llama')],
      ['llama.block_count', u32(1)],
      ['llama.context_length', u32(64)],
      ['llama.embedding_length', u32(8)],
      ['llama.feed_forward_length', u32(12)],
      ['llama.attention.head_count', u32(2)],
      ['llama.attention.head_count_kv', u32(1)],
      ['llama.attention.layer_norm_rms_epsilon', f32(1e-5)],
      ['llama.rope.freq_base', f32(10_000)],
    ],
    tensors: [
      f32Tensor('token_embd.weight', 5, 8),
      f32Tensor('output_norm.weight', 8),
      f32Tensor('blk.0.attn_norm.weight', 8),
      f32Tensor('blk.0.attn_q.weight', 8, 8),
      f32Tensor('blk.0.attn_k.weight', 4, 8),
      f32Tensor('blk.0.attn_v.weight', 4, 8),
      f32Tensor('blk.0.attn_output.weight', 8, 8),
      f32Tensor('blk.0.ffn_norm.weight', 8),
      f32Tensor('blk.0.ffn_gate.weight', 12, 8),
      f32Tensor('blk.0.ffn_up.weight', 12, 8),
      f32Tensor('blk.0.ffn_down.weight', 8, 12),
    ],
  }
}
