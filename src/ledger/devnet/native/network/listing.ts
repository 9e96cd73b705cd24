import { ChoraleError } from '../../../../errors.ts'
import type { LedgerValue } from '../../../ledger.ts'
import type { EventDefinition, StorageDefinition, StorageHasher } from '../pallet.ts'

/** A call as the listing declares it. */
export interface CallDeclaration {
  readonly name: string
  readonly args: Readonly<Record<string, string>>
}

/** Parses `name(argument: type, …)` lines. @throws `internal`: listings are part of the program. */
export function parseCalls(list: string): CallDeclaration[] {
  return lines(list).map((line) => {
    const [, name, args] = match(line, /^(\w+)\((.*)\)$/)
    return { name: name ?? '', args: parseFields(args ?? '') }
  })
}

/** Parses `Name { field: type, … }` and `Name(type, …)` lines; the index is the position. @throws `internal`. */
export function parseEvents(list: string): EventDefinition[] {
  return lines(list).map((line, index) => {
    const [, name, fields, types] = match(line, /^(\w+)(?: \{ (.*) \}|\((.*)\))$/)
    return {
      index,
      name: name ?? '',
      fields: fields === undefined ? splitTypes(types ?? '') : parseFields(fields),
    }
  })
}

/** Parses `Name: hasher key, … => type` lines; `units` gives values to the names that defaults use. @throws `internal`. */
export function parseStorage(
  list: string,
  units: Readonly<Record<string, number>>,
  structs: Readonly<Record<string, LedgerValue>>,
): StorageDefinition[] {
  return lines(list).map((line) => {
    const [, name, keys, type, optional, value] = match(
      line,
      /^(\w+): (?:(.+) => )?([^?=]+?)(\?)?(?: = (.+))?$/,
    )
    const entry = { name: name ?? '', keys: splitTypes(keys ?? '').map(parseKey), type: type ?? '' }
    if (optional !== undefined) return entry
    const zero = structs[entry.name] ?? zeroOf(entry.type)
    return { ...entry, default: value === undefined ? zero : parseValue(value, entry.type, units) }
  })
}

/** Non-empty lines of a listing. */
export function lines(list: string): string[] {
  return list.split('\n').filter((line) => line !== '')
}

/** Parses `name: type, …`. */
export function parseFields(text: string): Record<string, string> {
  return Object.fromEntries(
    splitTypes(text).map((field) => {
      const colon = field.indexOf(': ')
      return [field.slice(0, colon), field.slice(colon + 2)]
    }),
  )
}

/** Splits at the commas that no bracket encloses. */
function splitTypes(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (character === '<' || character === '(') depth++
    else if (character === '>' || character === ')') depth--
    else if (character === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  const last = text.slice(start).trim()
  return last === '' ? parts : [...parts, last]
}

function parseKey(text: string): { readonly hasher: StorageHasher; readonly type: string } {
  const [hasher, type] = text.split(' ')
  return { hasher: hasher as StorageHasher, type: type ?? '' }
}

function parseValue(text: string, type: string, units: Readonly<Record<string, number>>): LedgerValue {
  const [unit, divisor] = text.split(' / ')
  const base = units[unit ?? '']
  if (base !== undefined) return Math.floor(base / Number(divisor))
  return type === 'u32' ? Number(text) : BigInt(text)
}

function zeroOf(type: string): LedgerValue {
  if (type === 'u32') return 0
  if (type === 'bool') return false
  if (/^[iu](64|128)$/.test(type)) return 0n
  if (type === 'AccountId20') return `0x${'0'.repeat(40)}`
  if (/^(Vec|BTreeSet|BTreeMap)</.test(type)) return []
  throw new ChoraleError('internal', `storage of type ${type} needs a default`)
}

function match(line: string, pattern: RegExp): readonly (string | undefined)[] {
  const found = pattern.exec(line)
  if (found === null) throw new ChoraleError('internal', `listing line '${line}' can't be read`)
  return found
}
