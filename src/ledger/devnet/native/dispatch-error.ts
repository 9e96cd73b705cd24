import type { LedgerValue } from '../../ledger.ts'
import type { Origin, TypeDefinition } from './pallet.ts'

/** Ends a call: what it wrote is rolled back, its extrinsic fails with this error. A value of type `DispatchError`. */
export class DispatchFailure extends Error {
  override readonly name = 'DispatchFailure'
  readonly error: LedgerValue

  constructor(error: LedgerValue, message: string) {
    super(message)
    this.error = error
  }
}

/** The account that signed. @throws DispatchFailure `BadOrigin` for root. */
export function ensureSigned(origin: Origin): string {
  return origin === 'root' ? badOrigin() : origin.signed
}

/** @throws DispatchFailure `BadOrigin` for a signed account. */
export function ensureRoot(origin: Origin): void {
  if (origin !== 'root') badOrigin()
}

/** @throws DispatchFailure `BadOrigin`: not the caller this call wants. */
export function badOrigin(): never {
  throw new DispatchFailure('BadOrigin', 'BadOrigin')
}

/** What can be wrong with moving money. */
export type TokenError = (typeof TOKEN_ERRORS)[number]

/** @throws DispatchFailure `Token` */
export function tokenFailure(error: TokenError): never {
  throw new DispatchFailure({ type: 'Token', value: error }, `Token.${error}`)
}

/** @throws DispatchFailure `Arithmetic` */
export function arithmeticFailure(error: 'Underflow' | 'Overflow' | 'DivisionByZero'): never {
  throw new DispatchFailure({ type: 'Arithmetic', value: error }, `Arithmetic.${error}`)
}

const TOKEN_ERRORS = [
  'FundsUnavailable',
  'OnlyProvider',
  'BelowMinimum',
  'CannotCreate',
  'UnknownAsset',
  'Frozen',
  'Unsupported',
  'CannotCreateHold',
  'NotExpendable',
  'Blocked',
] as const

const units = (names: readonly string[]): Record<string, readonly string[]> =>
  Object.fromEntries(names.map((name) => [name, []]))

/** Errors of a dispatch as sp-runtime defines them. */
export const DISPATCH_ERROR_TYPES: Readonly<Record<string, TypeDefinition>> = {
  DispatchError: {
    path: 'sp_runtime::DispatchError',
    variants: {
      Other: [],
      CannotLookup: [],
      BadOrigin: [],
      Module: ['ModuleError'],
      ConsumerRemaining: [],
      NoProviders: [],
      TooManyConsumers: [],
      Token: ['TokenError'],
      Arithmetic: ['ArithmeticError'],
      Transactional: ['TransactionalError'],
      Exhausted: [],
      Corruption: [],
      Unavailable: [],
      RootNotAllowed: [],
      Trie: ['TrieError'],
    },
  },
  ModuleError: { path: 'sp_runtime::ModuleError', fields: { index: 'u8', error: '[u8; 4]' } },
  TokenError: { path: 'sp_runtime::TokenError', variants: units(TOKEN_ERRORS) },
  ArithmeticError: {
    path: 'sp_arithmetic::ArithmeticError',
    variants: units(['Underflow', 'Overflow', 'DivisionByZero']),
  },
  TransactionalError: {
    path: 'sp_runtime::TransactionalError',
    variants: units(['LimitReached', 'NoLayer']),
  },
  TrieError: {
    path: 'sp_runtime::proving_trie::TrieError',
    variants: units([
      'InvalidStateRoot',
      'IncompleteDatabase',
      'ValueAtIncompleteKey',
      'DecoderError',
      'InvalidHash',
      'DuplicateKey',
      'ExtraneousNode',
      'ExtraneousValue',
      'ExtraneousHashReference',
      'InvalidChildReference',
      'ValueMismatch',
      'IncompleteProof',
      'RootMismatch',
      'DecodeError',
    ]),
  },
}
