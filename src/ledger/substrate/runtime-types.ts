import { ChoraleError } from '../../errors.ts'

/**
 * A runtime's types as plain data, taken from its metadata: what `scale-decode.ts` and `scale-encode.ts` walk. Type ids are
 * positions in `RuntimeTypes`.
 */
export type RuntimeType =
  | { readonly kind: 'primitive'; readonly name: PrimitiveName }
  | { readonly kind: 'compact'; readonly of: number }
  | { readonly kind: 'sequence'; readonly of: number }
  | { readonly kind: 'array'; readonly of: number; readonly length: number }
  | { readonly kind: 'tuple'; readonly of: readonly number[] }
  /** A struct around one unnamed field: written and shown as that field. */
  | { readonly kind: 'alias'; readonly of: number }
  | { readonly kind: 'struct'; readonly fields: readonly { readonly name: string; readonly type: number }[] }
  | { readonly kind: 'enum'; readonly variants: readonly RuntimeVariant[] }
  | { readonly kind: 'option'; readonly of: number }
  | { readonly kind: 'account'; readonly bytes: 20 | 32 }
  | { readonly kind: 'hash'; readonly bytes: number }
  | { readonly kind: 'bits' }

export type RuntimeTypes = readonly RuntimeType[]

/** One variant; `fields` named or, without names, in order. */
export interface RuntimeVariant {
  readonly index: number
  readonly name: string
  readonly fields: readonly { readonly name: string | undefined; readonly type: number }[]
}

export const INTEGERS = {
  u8: { bytes: 1, signed: false },
  u16: { bytes: 2, signed: false },
  u32: { bytes: 4, signed: false },
  u64: { bytes: 8, signed: false },
  u128: { bytes: 16, signed: false },
  u256: { bytes: 32, signed: false },
  i8: { bytes: 1, signed: true },
  i16: { bytes: 2, signed: true },
  i32: { bytes: 4, signed: true },
  i64: { bytes: 8, signed: true },
  i128: { bytes: 16, signed: true },
  i256: { bytes: 32, signed: true },
} as const

export type IntegerName = keyof typeof INTEGERS
export type PrimitiveName = IntegerName | 'bool' | 'str' | 'char'

/** How accounts are written: lower-case 0x-hex for 20 bytes, SS58 for 32. */
export interface AccountText {
  encode(bytes: Uint8Array): string
  /** @returns undefined when the text is no account of that many bytes. */
  decode(text: string, bytes: 20 | 32): Uint8Array | undefined
}

/** Nesting that no value of a chain reaches; metadata of a hostile node may describe a type that holds itself. */
export const MAX_DEPTH = 64

/** The type with that id. @throws `ledger` when the metadata has none. */
export function typeOf(types: RuntimeTypes, id: number): RuntimeType {
  const type = types[id]
  if (type === undefined) throw new ChoraleError('ledger', `the runtime's metadata has no type ${id}`)
  return type
}

/** Whether the type is a byte: sequences and arrays of it are Uint8Array. */
export function isByte(types: RuntimeTypes, id: number): boolean {
  const type = typeOf(types, id)
  return type.kind === 'primitive' && type.name === 'u8'
}
