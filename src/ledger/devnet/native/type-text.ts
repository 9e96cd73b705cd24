import { ChoraleError } from '../../../errors.ts'

/** A type as Rust prints it, taken apart. */
export type TypeNode =
  | { readonly kind: 'primitive'; readonly name: Primitive }
  /** `Vec<u8>`. */
  | { readonly kind: 'bytes' }
  | { readonly kind: 'array'; readonly of: TypeNode; readonly length: number }
  | { readonly kind: 'option' | 'vec' | 'set' | 'compact'; readonly of: TypeNode }
  | { readonly kind: 'map' | 'result'; readonly of: TypeNode; readonly and: TypeNode }
  | { readonly kind: 'tuple'; readonly of: readonly TypeNode[] }
  /** A struct or enum of the type table. */
  | { readonly kind: 'named'; readonly name: string }

/** Types that scale-info calls primitive. */
export type Primitive = 'bool' | 'str' | `${'u' | 'i'}${8 | 16 | 32 | 64 | 128}`

const PRIMITIVES: ReadonlySet<string> = new Set([
  'bool',
  'str',
  ...['u', 'i'].flatMap((sign) => [8, 16, 32, 64, 128].map((bits) => `${sign}${bits}`)),
])

const ONE_PARAMETER: Readonly<Record<string, 'option' | 'vec' | 'set' | 'compact'>> = {
  Option: 'option',
  Vec: 'vec',
  BTreeSet: 'set',
  Compact: 'compact',
}

/** Longest fixed array; defends against a typing slip, no type of Substrate's is longer. */
const MAX_ARRAY = 4096

/**
 * Parses type text: `u32`, `Option<T>`, `Vec<T>`, `BTreeMap<K, V>`, `BTreeSet<T>`, `Result<T, E>`, `Compact<T>`, `(A, B)`,
 * `[T; N]`, `Bytes`, `String`, or a name. @throws `internal`: type text is part of the program.
 */
export function parseType(text: string): TypeNode {
  const tokens = text.match(/[A-Za-z_][A-Za-z0-9_:]*|\d+|[<>(),;[\]]|\S/g) ?? []
  let at = 0
  const fail = (): never => {
    throw new ChoraleError('internal', `type text '${text}' can't be read at '${tokens[at] ?? 'its end'}'`)
  }
  const expect = (token: string): void => {
    if (tokens[at] !== token) fail()
    at++
  }
  const list = (close: string): TypeNode[] => {
    const types: TypeNode[] = []
    while (tokens[at] !== close) {
      types.push(type())
      if (tokens[at] !== close) expect(',')
    }
    at++
    return types
  }
  const type = (): TypeNode => {
    const token = tokens[at++]
    if (token === '(') {
      return { kind: 'tuple', of: list(')') }
    }
    if (token === '[') {
      const of = type()
      expect(';')
      const length = Number(tokens[at++])
      if (!Number.isInteger(length) || length > MAX_ARRAY) fail()
      expect(']')
      return { kind: 'array', of, length }
    }
    if (token === undefined || !/^[A-Za-z_]/.test(token)) {
      at--
      return fail()
    }
    if (PRIMITIVES.has(token)) return { kind: 'primitive', name: token as Primitive }
    if (token === 'Bytes') return { kind: 'bytes' }
    if (token === 'String' || token === 'Text') return { kind: 'primitive', name: 'str' }
    if (tokens[at] !== '<') return { kind: 'named', name: token }
    at++
    const [of, and, more] = list('>')
    if (of === undefined || more !== undefined) return fail()
    if (and === undefined) {
      const kind = ONE_PARAMETER[token] ?? fail()
      if (kind === 'vec' && of.kind === 'primitive' && of.name === 'u8') return { kind: 'bytes' }
      return { kind, of }
    }
    if (token === 'BTreeMap') return { kind: 'map', of, and }
    if (token === 'Result') return { kind: 'result', of, and }
    return fail()
  }
  const node = type()
  if (at !== tokens.length) fail()
  return node
}
