import { ChoraleError } from '../errors.ts'

/** Real files nest two or three deep; recursion below runs over them. */
const MAX_DEPTH = 16

/**
 * Checks `normalizer` or `pre_tokenizer` of a tokenizer.json as far as the library that runs them does not: it would
 * warn on the console, or never end.
 * @throws `bad_file` naming the field. Types it does not know are left to the library's own error.
 */
export function checkSteps(value: unknown, field: string, depth = 0): void {
  if (value === null || value === undefined) return
  if (depth > MAX_DEPTH) refuse(field, `is nested deeper than ${MAX_DEPTH}`)
  if (typeof value !== 'object' || Array.isArray(value)) refuse(field, 'is not an object')
  const step = value as Record<string, unknown>
  const { type } = step
  if (type === 'Split' || type === 'Replace') {
    const pattern = step['pattern'] as Record<string, unknown> | null | undefined
    const text = pattern?.['Regex'] ?? pattern?.['String']
    if (typeof text !== 'string')
      refuse(`${field}.pattern`, 'is neither {"Regex": text} nor {"String": text}')
  }
  if (type === 'FixedLength' && !(Number.isInteger(step['length']) && (step['length'] as number) > 0)) {
    refuse(`${field}.length`, 'is no length of at least 1')
  }
  for (const name of ['normalizers', 'pretokenizers']) {
    const parts = step[name]
    if (parts === undefined) continue
    if (!Array.isArray(parts)) refuse(`${field}.${name}`, 'is not a list')
    for (const part of parts) checkSteps(part, `${field}.${name}`, depth + 1)
  }
}

function refuse(field: string, what: string): never {
  throw new ChoraleError('bad_file', `tokenizer.json: ${field} ${what}`, { field })
}
