import { ChoraleError } from '../errors.ts'
import { isJsonObject, type JsonObject } from './json.ts'
import type { ModelSpec } from './spec.ts'

/** Defend buffers and loops whose size they are; several times those of the largest public models. */
const MAX_HEADS = 4096
const MAX_HEAD_DIM = 4096
const MAX_BLOCKS = 4096
const MAX_WIDTH = 1 << 20
const MAX_VOCABULARY = 1 << 24
const MAX_CONTEXT = 1 << 28
const MAX_EXPERTS = 1 << 12
const MAX_EOS = 256

/**
 * A model's shape out of JSON that anybody may have written: every field is there, inside its bounds, and nothing
 * else; two programs give equal text for equal shapes.
 * @throws `bad_file` naming the field.
 */
export function checkSpec(value: unknown): ModelSpec {
  const spec = object(value, 'spec')
  const headCount = count(spec, 'headCount', MAX_HEADS)
  const kvHeadCount = count(spec, 'kvHeadCount', MAX_HEADS)
  const headDim = count(spec, 'headDim', MAX_HEAD_DIM)
  const blockCount = count(spec, 'blockCount', MAX_BLOCKS)
  if (headCount % kvHeadCount !== 0) throw bad('kvHeadCount')
  const { bosTokenId, eosTokenIds, family } = spec
  if (typeof family !== 'string' || !/^[\w.-]{1,64}$/.test(family)) throw bad('family')
  const isToken = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0
  if (bosTokenId !== undefined && !isToken(bosTokenId)) throw bad('bosTokenId')
  if (!Array.isArray(eosTokenIds) || eosTokenIds.length > MAX_EOS || !eosTokenIds.every(isToken)) {
    throw bad('eosTokenIds')
  }
  const biases = object(spec['biases'], 'biases')
  return {
    family,
    hiddenSize: count(spec, 'hiddenSize', MAX_WIDTH),
    blockCount,
    headCount,
    kvHeadCount,
    headDim,
    intermediateSize: count(spec, 'intermediateSize', MAX_WIDTH * 16),
    vocabSize: count(spec, 'vocabSize', MAX_VOCABULARY),
    contextLength: count(spec, 'contextLength', MAX_CONTEXT),
    norm: normOf(object(spec['norm'], 'norm')),
    residual: residualOf(object(spec['residual'], 'residual')),
    mlp: mlpOf(object(spec['mlp'], 'mlp')),
    activation: oneOf(spec, 'activation', ['silu', 'gelu', 'gelu-tanh']),
    positions: positionsOf(object(spec['positions'], 'positions'), headDim, headCount),
    windows: windowsOf(spec['windows'], blockCount),
    qkNorm: flag(spec, 'qkNorm'),
    embeddingNorm: flag(spec, 'embeddingNorm'),
    biases: {
      qkv: flag(biases, 'qkv'),
      attentionOut: flag(biases, 'attentionOut'),
      mlp: flag(biases, 'mlp'),
    },
    tiedHead: flag(spec, 'tiedHead'),
    bosTokenId,
    eosTokenIds,
  }
}

function normOf(norm: JsonObject): ModelSpec['norm'] {
  return { kind: oneOf(norm, 'kind', ['rms', 'layer']), epsilon: amount(norm['epsilon'], 'epsilon', 0, 1) }
}

function residualOf(residual: JsonObject): ModelSpec['residual'] {
  const kind = oneOf(residual, 'kind', ['sequential', 'parallel'])
  if (kind === 'sequential') return { kind }
  const { norms } = residual
  if (norms !== 1 && norms !== 2) throw bad('residual.norms')
  return { kind, norms }
}

function mlpOf(mlp: JsonObject): ModelSpec['mlp'] {
  const kind = oneOf(mlp, 'kind', ['gated', 'plain', 'moe'])
  if (kind !== 'moe') return { kind }
  const expertCount = count(mlp, 'expertCount', MAX_EXPERTS)
  return {
    kind,
    expertCount,
    topK: count(mlp, 'topK', expertCount),
    normalizeTopK: flag(mlp, 'normalizeTopK'),
  }
}

function positionsOf(positions: JsonObject, headDim: number, headCount: number): ModelSpec['positions'] {
  const kind = oneOf(positions, 'kind', ['rope', 'alibi'])
  if (kind === 'alibi') {
    return {
      kind,
      slopes: amounts(positions['slopes'], 'slopes', headCount),
      scaledByHeadDim: flag(positions, 'scaledByHeadDim'),
      roundedBias: flag(positions, 'roundedBias'),
    }
  }
  const rotaryDim = count(positions, 'rotaryDim', headDim)
  if (rotaryDim % 2 !== 0) throw bad('positions.rotaryDim')
  return {
    kind,
    rotaryDim,
    inverseFrequencies: amounts(positions['inverseFrequencies'], 'inverseFrequencies', rotaryDim / 2),
    attentionFactor: amount(positions['attentionFactor'], 'attentionFactor', 0, 1e6),
  }
}

function windowsOf(value: unknown, blockCount: number): readonly (number | null)[] {
  if (!Array.isArray(value) || value.length !== blockCount) throw bad('windows')
  const windows = value as unknown[]
  if (!windows.every((size) => size === null || isCount(size, MAX_CONTEXT))) throw bad('windows')
  return windows
}

function object(value: unknown, field: string): JsonObject {
  if (isJsonObject(value)) return value
  throw bad(field)
}

function isCount(value: unknown, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= max
}

function count(from: JsonObject, field: string, max: number): number {
  const value = from[field]
  if (isCount(value, max)) return value
  throw bad(field)
}

function flag(from: JsonObject, field: string): boolean {
  const value = from[field]
  if (typeof value === 'boolean') return value
  throw bad(field)
}

function amount(value: unknown, field: string, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value
  throw bad(field)
}

function amounts(value: unknown, field: string, length: number): readonly number[] {
  if (!Array.isArray(value) || value.length !== length) throw bad(field)
  return (value as unknown[]).map((entry) => amount(entry, field, 0, 1e6))
}

function oneOf<T extends string>(from: JsonObject, field: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === from[field])
  if (found !== undefined) return found
  throw bad(field)
}

function bad(field: string): ChoraleError {
  return new ChoraleError('bad_file', `the model's description is unusable: ${field}`, { field })
}
