import { ChoraleError } from '../errors.ts'
import type { TokenizerFiles } from '../model/model.ts'

/** What the two tokenizer files say, checked. */
export interface Vocabulary {
  /** Entry by id as stored; holes are undefined. */
  readonly pieces: readonly (string | undefined)[]
  /** Tokens matched in text before the model sees it, special or not. */
  readonly added: readonly AddedToken[]
  /** Ids left out of decoded text: special added tokens and those the config names (bos, eos, unk, pad, …). */
  readonly special: ReadonlySet<number>
  readonly unknownToken: string | undefined
  /** The texts of `bos_token` and `eos_token`, for templates; '' when there are none. */
  readonly bosToken: string
  readonly eosToken: string
}

export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
  /** Matched after normalisation instead of before. */
  readonly normalized: boolean
  /** The entry as it stands in the file. */
  readonly source: Readonly<Record<string, unknown>>
}

/** Largest id read: keeps a forged id from growing tables to gigabytes. Real vocabularies end near 262,000. */
const MAX_ID = 2_000_000
/** Longest added token, in UTF-16 units: what is matched at every position of a text must stay short. */
const MAX_ADDED_LENGTH = 512
const NAMED_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'pad_token',
  'sep_token',
  'cls_token',
  'mask_token',
]

/**
 * @throws `bad_file` naming the field, `not_supported` for models other than BPE and Unigram. Merges are checked for
 * form only.
 */
export function readVocabulary(files: TokenizerFiles): Vocabulary {
  // Read from JSON: the types are a promise of nobody.
  const tokenizer = record(files.tokenizer, 'the file')
  const config = record(files.config, 'tokenizer_config.json')
  if (files.chatTemplate !== undefined && typeof (files.chatTemplate as unknown) !== 'string') {
    fail('chat_template', 'is not text')
  }
  const model = record(tokenizer['model'], 'model')
  const pieces: (string | undefined)[] = []
  const ids = new Map<string, number>()
  const put = (piece: unknown, id: unknown, field: string): void => {
    if (typeof piece !== 'string') fail(field, 'holds an entry that is not text')
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > MAX_ID) {
      fail(field, `gives "${piece.slice(0, 40)}" the id ${String(id).slice(0, 40)}, ids are 0..${MAX_ID}`)
    }
    while (pieces.length < (id as number)) pieces.push(undefined)
    pieces[id as number] = piece
    ids.set(piece, id as number)
  }

  let unknownToken: string | undefined
  const vocab = model['vocab']
  if (model['type'] === 'Unigram' || (model['type'] === undefined && Array.isArray(vocab))) {
    if (!Array.isArray(vocab) || vocab.length === 0) fail('model.vocab', 'is not a list of pieces')
    vocab.forEach((entry: unknown, id) => {
      if (!Array.isArray(entry) || typeof entry[1] !== 'number')
        fail('model.vocab', `has no [piece, score] at ${id}`)
      put(entry[0], id, 'model.vocab')
    })
    const unknownId = model['unk_id'] ?? undefined
    if (unknownId !== undefined) unknownToken = pieces[unknownId as number]
    if (unknownToken === undefined) fail('model.unk_id', 'names no piece')
  } else if (model['type'] === 'BPE' || (model['type'] === undefined && Array.isArray(model['merges']))) {
    for (const [piece, id] of Object.entries(record(vocab, 'model.vocab'))) put(piece, id, 'model.vocab')
    checkMerges(model['merges'])
    const unknown = model['unk_token'] ?? undefined
    if (unknown !== undefined && typeof unknown !== 'string') fail('model.unk_token', 'is not text')
    unknownToken = unknown
  } else {
    throw new ChoraleError(
      'not_supported',
      `tokenizer.json: model ${String(model['type']).slice(0, 40)} is not supported (BPE and Unigram are)`,
      { field: 'model.type' },
    )
  }

  const added = list(tokenizer['added_tokens'], 'added_tokens').map((value, index) => {
    const field = `added_tokens[${index}]`
    const token = record(value, field)
    const { content, special } = token
    if (typeof content !== 'string' || content === '' || content.length > MAX_ADDED_LENGTH) {
      fail(`${field}.content`, `must be text of 1 to ${MAX_ADDED_LENGTH} characters`)
    }
    put(content, token['id'], field)
    const isSpecial = special === true
    const normalized = (token['normalized'] ?? !isSpecial) === true && !isSpecial
    return { id: token['id'] as number, content, special: isSpecial, normalized, source: token }
  })

  const special = new Set(added.filter((token) => token.special).map((token) => token.id))
  const named = (name: string): string => {
    const value = config[name]
    const text = typeof value === 'string' ? value : isRecord(value) ? value['content'] : undefined
    return typeof text === 'string' ? text : ''
  }
  const texts = NAMED_TOKENS.map(named)
  const additional = config['additional_special_tokens']
  if (Array.isArray(additional)) {
    for (const value of additional as unknown[]) {
      const text = isRecord(value) ? value['content'] : value
      if (typeof text === 'string') texts.push(text)
    }
  }
  const matched = new Set(added.map((token) => token.id))
  for (const content of texts) {
    const id = ids.get(content)
    if (id === undefined) continue
    special.add(id)
    // Named by the config only: templates write it all the same.
    if (!matched.has(id)) added.push(specialToken(id, content))
    matched.add(id)
  }
  return {
    pieces,
    added,
    special,
    unknownToken,
    bosToken: named('bos_token'),
    eosToken: named('eos_token'),
  }
}

/** A special token that the list of added tokens lacks. */
export function specialToken(id: number, content: string): AddedToken {
  return { id, content, special: true, normalized: false, source: { id, content, special: true } }
}

function checkMerges(value: unknown): void {
  for (const [index, merge] of list(value, 'model.merges').entries()) {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge
    const usable = Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string')
    if (!usable) fail(`model.merges[${index}]`, 'is not a pair of pieces')
  }
}

function list(value: unknown, field: string): unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) fail(field, 'is not a list')
  return value
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (!isRecord(value)) fail(field, 'is not an object')
  return value
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function fail(field: string, what: string): never {
  throw new ChoraleError('bad_file', `tokenizer.json: ${field} ${what}`, { field })
}
