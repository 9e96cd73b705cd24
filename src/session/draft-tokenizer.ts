import { ChoraleError } from '../errors.ts'
import type { Model, TokenizerFiles } from '../model/model.ts'
import { readVocabulary } from '../tokenizer/vocabulary.ts'

/** Entries that only fill a vocabulary up to a round number; files of one family have different counts of them. */
const FILLER = /^\[PAD\d+\]$/

/**
 * Checks that two models cut text into the same tokens: same entries under the same ids, same merges, same special
 * tokens. Guesses are token ids; with another vocabulary they would all be wrong, and nobody would say why.
 * @throws `bad_config` naming the draft and what differs, `not_supported` when a model holds no tokenizer, `bad_file`.
 */
export async function assertSameTokenizer(target: Model, draft: Model): Promise<void> {
  const [wanted, given] = [await filesOf(target), await filesOf(draft)]
  const difference = vocabularyDifference(wanted, given) ?? mergeDifference(wanted, given)
  if (difference === undefined) return
  throw new ChoraleError(
    'bad_config',
    `${draft.name} can't draft for ${target.name}: ${difference}. A draft needs the same tokenizer: take a smaller model of the same family, or none`,
    { field: 'draft' },
  )
}

async function filesOf(model: Model): Promise<TokenizerFiles> {
  const files = await model.tokenizerFiles()
  if (files !== undefined) return files
  throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
}

function vocabularyDifference(wanted: TokenizerFiles, given: TokenizerFiles): string | undefined {
  const [a, b] = [readVocabulary(wanted), readVocabulary(given)]
  const piece = (pieces: readonly (string | undefined)[], id: number) => {
    const text = pieces[id] ?? ''
    return FILLER.test(text) ? '' : text
  }
  for (let id = 0; id < Math.max(a.pieces.length, b.pieces.length); id++) {
    const [there, here] = [piece(a.pieces, id), piece(b.pieces, id)]
    if (there !== here) return `token ${id} is ${quote(there)} there and ${quote(here)} here`
  }
  for (const id of new Set([...a.special, ...b.special])) {
    if (a.special.has(id) === b.special.has(id) || piece(a.pieces, id) === '') continue
    const who = a.special.has(id) ? 'there and not here' : 'here and not there'
    return `token ${id}, ${quote(piece(a.pieces, id))}, is special ${who}`
  }
  return undefined
}

/** The order in which pieces are joined; two files may write a pair in two ways. */
function mergeDifference(wanted: TokenizerFiles, given: TokenizerFiles): string | undefined {
  const [a, b] = [mergesOf(wanted), mergesOf(given)]
  const at = a.findIndex((merge, index) => merge !== b[index])
  if (at === -1 && a.length === b.length) return undefined
  const index = at === -1 ? a.length : at
  return `merge ${index} is ${quote(a[index])} there and ${quote(b[index])} here (${a.length} and ${b.length} merges)`
}

function mergesOf({ tokenizer }: TokenizerFiles): readonly string[] {
  const { merges } = (tokenizer['model'] ?? {}) as { readonly merges?: unknown }
  if (!Array.isArray(merges)) return []
  return merges.map((merge: unknown) => (Array.isArray(merge) ? merge.join(' ') : String(merge)))
}

function quote(text: string | undefined): string {
  return text === undefined || text === '' ? 'nothing' : JSON.stringify(text.slice(0, 40))
}
