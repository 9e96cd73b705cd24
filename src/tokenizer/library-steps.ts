import { ChoraleError } from '../errors.ts'

/**
 * Puts `normalizer` and `pre_tokenizer` of a tokenizer.json into a form that @huggingface/tokenizers 0.2.0 runs as
 * Hugging Face's own (Rust) library runs the original.
 *
 * Where the two differ: `Digits` there knows only 0–9 (Rust: every \p{N}, so `½` too), `ByteLevel` takes JavaScript's
 * white space for Unicode's (U+0085, U+FEFF), `Punctuation` always joins neighbours, `Split` knows only Isolated and
 * Removed and drops what an inverted pattern leaves out, unknown patterns are warned of on the console, and a
 * `FixedLength` of 0 never ends. Source of the meanings: tokenizers' `SplitDelimiterBehavior`.
 */

/** Real files nest two or three deep; recursion below runs over them. */
const MAX_DEPTH = 16

const PUNCTUATION = '[\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E]'

/** GPT-2's own expression, which `ByteLevel` with `use_regex` stands for. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

type Step = Readonly<Record<string, unknown>>

/**
 * @param field where the value stands, for errors.
 * @throws `bad_file` for broken steps, `not_supported` for behaviours nobody ships. Types it does not know are left to
 * the library's own error.
 */
export function librarySteps(value: unknown, field: string, depth = 0): Step | null {
  if (value === null || value === undefined) return null
  if (depth > MAX_DEPTH) throw bad(field, `is nested deeper than ${MAX_DEPTH}`)
  if (typeof value !== 'object' || Array.isArray(value)) throw bad(field, 'is not an object')
  const step = value as Step
  switch (step['type']) {
    case 'Sequence': {
      const name = step['normalizers'] === undefined ? 'pretokenizers' : 'normalizers'
      const parts: unknown = step[name] ?? []
      if (!Array.isArray(parts)) throw bad(`${field}.${name}`, 'is not a list')
      return { ...step, [name]: parts.map((part) => librarySteps(part, `${field}.${name}`, depth + 1)) }
    }
    case 'ByteLevel':
      // A space put in front is put before cutting, so it can't be split off.
      if (step['add_prefix_space'] !== false || step['use_regex'] === false) return step
      return { type: 'Sequence', pretokenizers: [isolated(GPT2), { ...step, use_regex: false }] }
    case 'Digits':
      return isolated(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+')
    case 'Punctuation':
      return split(PUNCTUATION, step['behavior'] ?? 'Isolated', false, field)
    case 'Replace':
      patternOf(step, field)
      return step
    case 'Split':
      return splitStep(step, field)
    case 'FixedLength':
      if (!Number.isInteger(step['length']) || (step['length'] as number) < 1) {
        throw bad(`${field}.length`, 'is no length of at least 1')
      }
      return step
    default:
      return step
  }
}

/** Keeps the file's own pattern where the library agrees on its meaning. */
function splitStep(step: Step, field: string): Step {
  const { kind, text } = patternOf(step, field)
  const behavior = step['behavior'] ?? 'Isolated'
  const invert = step['invert'] === true
  if ((behavior === 'Removed' && invert) || (behavior === 'Isolated' && !invert)) return step
  const source = kind === 'Regex' ? text : text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return split(source, behavior, invert, field)
}

function split(source: string, behavior: unknown, invert: boolean, field: string): Step {
  const one = `(?:${source})`
  const others = `(?:(?!${source})[\\s\\S])`
  switch (behavior) {
    case 'Isolated':
      // Everything is kept either way.
      return isolated(source)
    case 'Removed':
      // The library would put capture groups into the result, and makes one of a text pattern.
      return matches(`${others}+`)
    case 'Contiguous':
      return matches(`${one}+|${others}+`)
    case 'MergedWithPrevious':
      if (!invert) return matches(`${others}*${one}|${others}+`)
      break
    case 'MergedWithNext':
      if (!invert) return matches(`${one}${others}*|${others}+`)
      break
    default:
  }
  throw new ChoraleError(
    'not_supported',
    `tokenizer.json: ${field}.behavior ${String(behavior).slice(0, 40)}${invert ? ', inverted,' : ''} is not supported`,
    { field: `${field}.behavior` },
  )
}

/** Cuts around each match and keeps everything. */
function isolated(source: string): Step {
  return { type: 'Split', pattern: { Regex: source }, behavior: 'Isolated', invert: false }
}

/** Keeps the matches, which together are the whole text. */
function matches(source: string): Step {
  return { type: 'Split', pattern: { Regex: source }, behavior: 'Removed', invert: true }
}

function patternOf(step: Step, field: string): { kind: 'Regex' | 'String'; text: string } {
  const pattern = step['pattern'] as Step | null | undefined
  const kind = pattern?.['Regex'] === undefined ? 'String' : 'Regex'
  const text = pattern?.[kind]
  if (typeof text !== 'string' || text === '') {
    throw bad(`${field}.pattern`, 'is neither {"Regex": text} nor {"String": text}')
  }
  return { kind, text }
}

function bad(field: string, what: string): ChoraleError {
  return new ChoraleError('bad_file', `tokenizer.json: ${field} ${what}`, { field })
}
