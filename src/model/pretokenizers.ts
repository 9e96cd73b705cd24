import { ChoraleError } from '../errors.ts'
import type { GgufValue } from './gguf.ts'
import { clip } from './json.ts'

/** How byte-level BPE cuts text into words before merging, by GGUF's name for it (`tokenizer.ggml.pre`). */
export interface ByteLevelSplit {
  /** A `pre_tokenizer` of tokenizer.json. */
  readonly preTokenizer: Record<string, unknown>
  /** A word that is a token is taken whole, without merging. */
  readonly ignoreMerges: boolean
  /** Whether text starts with the beginning-of-sequence token when the file does not say. */
  readonly addBos: boolean
}

const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const QWEN2 = LLAMA3.replace('{1,3}', '')
const TEKKEN =
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'

/** `use_regex`: GPT-2's own expression. */
const bytes = (useRegex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
})
const sequence = (...pretokenizers: Record<string, unknown>[]) => ({ type: 'Sequence', pretokenizers })
const splitBy = (Regex: string) =>
  sequence({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }, bytes(false))

const GPT2: ByteLevelSplit = { preTokenizer: bytes(true), ignoreMerges: false, addBos: false }
const SINGLE_DIGITS: ByteLevelSplit = {
  preTokenizer: sequence({ type: 'Digits', individual_digits: true }, bytes(true)),
  ignoreMerges: false,
  addBos: false,
}
const LLAMA_BPE: ByteLevelSplit = { preTokenizer: splitBy(LLAMA3), ignoreMerges: true, addBos: true }

/** Source: llama.cpp `llama-vocab.cpp`, names and expressions. */
const SPLITS: ReadonlyMap<string, ByteLevelSplit> = new Map<string, ByteLevelSplit>([
  ['default', GPT2],
  ['gpt-2', GPT2],
  ['phi-2', GPT2],
  ['olmo', GPT2],
  ['smollm', SINGLE_DIGITS],
  ['starcoder', SINGLE_DIGITS],
  ['refact', SINGLE_DIGITS],
  ['command-r', SINGLE_DIGITS],
  ['llama-bpe', LLAMA_BPE],
  ['llama3', LLAMA_BPE],
  ['llama-v3', LLAMA_BPE],
  ['smaug-bpe', { ...LLAMA_BPE, ignoreMerges: false, addBos: false }],
  ['qwen2', { preTokenizer: splitBy(QWEN2), ignoreMerges: false, addBos: false }],
  ['deepseek-r1-qwen', { preTokenizer: splitBy(QWEN2), ignoreMerges: false, addBos: false }],
  ['tekken', { preTokenizer: splitBy(TEKKEN), ignoreMerges: true, addBos: true }],
])

/** @throws `not_supported` for a name not in the table: words cut otherwise would give other tokens. */
export function byteLevelSplit(file: string, name: GgufValue | undefined): ByteLevelSplit {
  const split = SPLITS.get(typeof name === 'string' ? name : 'default')
  if (split !== undefined) return split
  throw new ChoraleError('not_supported', `${file}: tokenizer.ggml.pre is ${clip(String(name))}`, {
    field: 'tokenizer.ggml.pre',
  })
}
