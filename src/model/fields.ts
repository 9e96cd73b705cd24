import { ChoraleError } from '../errors.ts'
import { isJsonObject, type JsonObject, show } from './json.ts'
import type { SizeField } from './family.ts'
import type { ModelSpec } from './spec.ts'

/** Bounds of one number in a config; each defends against sizes that overflow or exhaust memory later. */
export interface Bounds {
  readonly min: number
  readonly max: number
  readonly integer: boolean
}

const integer = (min: number, max: number): Bounds => ({ min, max, integer: true })
const real = (min: number, max: number): Bounds => ({ min, max, integer: false })

/** Several times the largest published model of each kind. */
export const SIZE_BOUNDS: Readonly<Record<SizeField, Bounds>> = {
  hiddenSize: integer(1, 65_536),
  blockCount: integer(1, 1024),
  headCount: integer(1, 1024),
  kvHeadCount: integer(1, 1024),
  headDim: integer(2, 1024),
  intermediateSize: integer(1, 1_048_576),
  vocabSize: integer(1, 4_194_304),
  contextLength: integer(1, 16_777_216),
  normEpsilon: real(1e-12, 0.1),
  expertCount: integer(1, 1024),
  expertsPerToken: integer(1, 1024),
}

export const ROPE_BOUNDS = {
  theta: real(1.000001, 1e15),
  factor: real(1, 1e6),
  smallFactor: real(1e-6, 1e6),
  context: integer(1, 16_777_216),
} as const

/** Reads numbers of one file, with errors that name file and field. */
export interface FieldReader {
  readonly file: string
  /** The number in `field`. @throws `bad_file` when it is missing without a fallback or out of bounds. */
  number(object: JsonObject, field: string, bounds: Bounds, fallback?: number): number
  /** Absent and null are `fallback`. @throws `bad_file` unless a boolean. */
  boolean(object: JsonObject, field: string, fallback: boolean): boolean
  /** Absent and null are undefined. @throws `bad_file` unless an object. */
  object(object: JsonObject, field: string): JsonObject | undefined
  bad(field: string, value: unknown, wanted: string): ChoraleError
  unsupported(field: string, value: unknown): ChoraleError
}

export function fieldReader(file: string): FieldReader {
  const bad = (field: string, value: unknown, wanted: string) =>
    new ChoraleError(
      'bad_file',
      value === undefined
        ? `${file}: ${field} is missing`
        : `${file}: ${field} is ${show(value)}, must be ${wanted}`,
      { field },
    )
  return {
    file,
    bad,
    unsupported: (field, value) =>
      new ChoraleError('not_supported', `${file}: ${field} = ${show(value)} is not computed here`, { field }),
    number: (object, field, bounds, fallback) => {
      const value = object[field] ?? fallback
      const kind = bounds.integer ? 'a whole number' : 'a number'
      const ok = bounds.integer ? Number.isInteger(value) : Number.isFinite(value)
      if (typeof value !== 'number' || !ok || value < bounds.min || value > bounds.max) {
        throw bad(field, value, `${kind} from ${bounds.min} to ${bounds.max}`)
      }
      return value
    },
    boolean: (object, field, fallback) => {
      const value = object[field] ?? fallback
      if (typeof value !== 'boolean') throw bad(field, value, 'true or false')
      return value
    },
    object: (object, field) => {
      const value = object[field] ?? undefined
      if (value !== undefined && !isJsonObject(value)) throw bad(field, value, 'an object')
      return value
    },
  }
}

/** Rules between a spec's numbers. @throws `bad_file` naming the fields. */
export function checkSpec(file: string, spec: ModelSpec): void {
  const fail = (field: string, problem: string) => {
    throw new ChoraleError('bad_file', `${file}: ${problem}`, { field })
  }
  if (spec.headCount % spec.kvHeadCount !== 0) {
    fail(
      'num_key_value_heads',
      `${spec.headCount} heads can't share ${spec.kvHeadCount} key/value heads evenly`,
    )
  }
  if (spec.mlp.kind === 'moe' && spec.mlp.topK > spec.mlp.expertCount) {
    fail('num_experts_per_tok', `${spec.mlp.topK} experts a token of ${spec.mlp.expertCount}`)
  }
  if (spec.positions.kind === 'rope' && spec.headDim % 2 !== 0)
    fail('head_dim', `head_dim ${spec.headDim} is odd, rotary positions need pairs`)
  for (const id of [...spec.eosTokenIds, ...(spec.bosTokenId === undefined ? [] : [spec.bosTokenId])]) {
    if (id >= spec.vocabSize) {
      fail('eos_token_id', `token id ${id} of bos or eos is outside the vocabulary of ${spec.vocabSize}`)
    }
  }
}
