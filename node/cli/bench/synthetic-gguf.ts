import { open } from 'node:fs/promises'
import type { BlockRole, ClientRole, Model, WeightTensor } from '../../../src/model/model.ts'
import { byteLength } from '../../../src/tensor/weight.ts'

/** ggml's numbers of the formats that synthetic blocks have. Source: gguf-py's constants. */
const TENSOR_TYPES: Readonly<Partial<Record<WeightTensor['dtype'], number>>> = { F32: 0, F16: 1, Q4_0: 2 }

const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 } as const
const ALIGNMENT = 32

/** Names of a block's tensors, after `blk.N.`, and of the client's. */
const BLOCK_NAMES: Readonly<Record<string, string>> = {
  attentionNorm: 'attn_norm',
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  mlpNorm: 'ffn_norm',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
}
const CLIENT_NAMES = { embedding: 'token_embd', finalNorm: 'output_norm' } as const

interface Entry {
  readonly name: string
  readonly info: Omit<WeightTensor, 'bytes'>
  readonly read: () => Promise<WeightTensor>
}

/**
 * Writes a synthetic model as a GGUF file that llama.cpp runs, tensor by tensor: the same bytes that our engines get.
 * Its vocabulary is three special tokens and the 256 bytes, without which llama.cpp doesn't load.
 */
export async function writeSyntheticGguf(model: Model, path: string): Promise<void> {
  const entries = entriesOf(model)
  const file = await open(path, 'w')
  try {
    const header = ggufHeader(model, entries)
    await file.write(header)
    for (const { read } of entries) {
      const { bytes } = await read()
      await file.write(bytes)
      await file.write(new Uint8Array(paddingOf(bytes.length)))
    }
  } finally {
    await file.close()
  }
}

function entriesOf(model: Model): Entry[] {
  const { blockCount } = model.spec
  const client = Object.entries(CLIENT_NAMES).map(([role, name]): Entry => {
    const own = role as ClientRole
    return {
      name: `${name}.weight`,
      info: model.weights.clientInfo(own),
      read: () => model.weights.client(own),
    }
  })
  const blocks = Array.from({ length: blockCount }, (_, block) =>
    Object.entries(BLOCK_NAMES).map(([role, name]): Entry => {
      const own = role as BlockRole
      return {
        name: `blk.${block}.${name}.weight`,
        info: model.weights.blockInfo(block, own),
        read: () => model.weights.block(block, own),
      }
    }),
  )
  return [...client, ...blocks.flat()]
}

function ggufHeader(model: Model, entries: readonly Entry[]): Uint8Array {
  const { spec } = model
  const writer = byteWriter()
  const vocabulary = syntheticVocabulary(spec.vocabSize)
  const u32 = (value: number) => () => writer.u32(VALUE_TYPES.u32).u32(value)
  const f32 = (value: number) => () => writer.u32(VALUE_TYPES.f32).f32(value)
  const text = (value: string) => () => writer.u32(VALUE_TYPES.string).string(value)
  const array = <T>(type: number, values: readonly T[], put: (value: T) => void) => {
    return () => {
      writer.u32(VALUE_TYPES.array).u32(type).u64(values.length)
      values.forEach(put)
    }
  }
  const metadata: Record<string, () => void> = {
    'general.architecture': text('llama'),
    'llama.block_count': u32(spec.blockCount),
    'llama.context_length': u32(spec.contextLength),
    'llama.embedding_length': u32(spec.hiddenSize),
    'llama.feed_forward_length': u32(spec.intermediateSize),
    'llama.attention.head_count': u32(spec.headCount),
    'llama.attention.head_count_kv': u32(spec.kvHeadCount),
    'llama.attention.layer_norm_rms_epsilon': f32(spec.norm.epsilon),
    'llama.rope.dimension_count': u32(spec.headDim),
    'llama.rope.freq_base': f32(10_000),
    'llama.vocab_size': u32(spec.vocabSize),
    'tokenizer.ggml.model': text('llama'),
    'tokenizer.ggml.tokens': array(VALUE_TYPES.string, vocabulary, ({ text: token }) => writer.string(token)),
    'tokenizer.ggml.scores': array(VALUE_TYPES.f32, vocabulary, () => writer.f32(0)),
    'tokenizer.ggml.token_type': array(VALUE_TYPES.i32, vocabulary, ({ type }) => writer.u32(type)),
    'tokenizer.ggml.bos_token_id': u32(1),
    'tokenizer.ggml.eos_token_id': u32(2),
  }
  writer.ascii('GGUF').u32(3).u64(entries.length).u64(Object.keys(metadata).length)
  for (const [key, put] of Object.entries(metadata)) {
    writer.string(key)
    put()
  }
  let offset = 0
  for (const { info, name } of entries) {
    const type = TENSOR_TYPES[info.dtype]
    if (type === undefined) throw new Error(`no GGUF number for ${info.dtype}`)
    writer.string(name).u32(info.shape.length)
    // The fastest dimension first.
    for (const size of info.shape.toReversed()) writer.u64(size)
    writer.u32(type).u64(offset)
    const bytes = byteLength(info.dtype, info.shape)
    offset += bytes + paddingOf(bytes)
  }
  const bytes = writer.finish()
  const padded = new Uint8Array(bytes.length + paddingOf(bytes.length))
  padded.set(bytes)
  return padded
}

/** Token types of SentencePiece as GGUF numbers them. */
const TOKEN_TYPES = { unknown: 2, control: 3, byte: 6 } as const

function syntheticVocabulary(size: number): readonly { readonly text: string; readonly type: number }[] {
  const special = [
    { text: '<unk>', type: TOKEN_TYPES.unknown },
    { text: '<s>', type: TOKEN_TYPES.control },
    { text: '</s>', type: TOKEN_TYPES.control },
  ]
  const bytes = Array.from({ length: 256 }, (_, byte) => ({
    text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    type: TOKEN_TYPES.byte,
  }))
  const rest = Array.from({ length: size }, (_, id) => ({ text: `<${id}>`, type: TOKEN_TYPES.control }))
  return [...special, ...bytes, ...rest].slice(0, size)
}

function paddingOf(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT
}

function byteWriter() {
  const chunks: Uint8Array[] = []
  const put = (bytes: number, fill: (view: DataView) => void) => {
    const chunk = new Uint8Array(bytes)
    fill(new DataView(chunk.buffer))
    chunks.push(chunk)
    return writer
  }
  const writer = {
    u32: (value: number) => put(4, (view) => view.setUint32(0, value, true)),
    u64: (value: number) => put(8, (view) => view.setBigUint64(0, BigInt(value), true)),
    f32: (value: number) => put(4, (view) => view.setFloat32(0, value, true)),
    ascii(text: string) {
      chunks.push(new TextEncoder().encode(text))
      return writer
    },
    string(text: string) {
      const bytes = new TextEncoder().encode(text)
      writer.u64(bytes.length)
      chunks.push(bytes)
      return writer
    },
    finish: () => new Uint8Array(Buffer.concat(chunks)),
  }
  return writer
}
