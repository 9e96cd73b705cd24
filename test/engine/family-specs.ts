import { alibiSlopes, roundToBfloat16 } from '../../src/model/alibi.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { ODD_SPEC } from './random-model.ts'

const NO_BIASES = { qkv: false, attentionOut: false, mlp: false }
const layer = { kind: 'layer', epsilon: 1e-5 } as const

/** ODD_SPEC's sizes, every family's structure, and what families don't combine. */
export const FAMILY_SPECS: Readonly<Record<string, ModelSpec>> = {
  'bloom, 6 heads': {
    ...ODD_SPEC,
    kvHeadCount: 6,
    norm: layer,
    mlp: { kind: 'plain' },
    activation: 'gelu-tanh',
    positions: { kind: 'alibi', slopes: alibiSlopes(6), scaledByHeadDim: false, roundedBias: false },
  },
  'falcon with ALiBi': {
    ...ODD_SPEC,
    kvHeadCount: 6,
    norm: layer,
    mlp: { kind: 'plain' },
    activation: 'gelu',
    positions: {
      kind: 'alibi',
      slopes: alibiSlopes(6).map(roundToBfloat16),
      scaledByHeadDim: true,
      roundedBias: true,
    },
  },
  'falcon, one key head, one norm': {
    ...ODD_SPEC,
    kvHeadCount: 1,
    norm: layer,
    residual: { kind: 'parallel', norms: 1 },
    mlp: { kind: 'plain' },
    activation: 'gelu',
    biases: NO_BIASES,
  },
  'falcon, grouped, two norms': {
    ...ODD_SPEC,
    norm: layer,
    residual: { kind: 'parallel', norms: 2 },
    mlp: { kind: 'plain' },
    activation: 'gelu',
    biases: NO_BIASES,
  },
  'mistral, windows of 1, 5 and 70': { ...ODD_SPEC, windows: [1, 5, 70], biases: NO_BIASES },
  'qwen3, padded heads': { ...ODD_SPEC, qkNorm: true, biases: NO_BIASES },
  'mixtral, 2 of 5 experts': {
    ...ODD_SPEC,
    mlp: { kind: 'moe', expertCount: 5, topK: 2, normalizeTopK: true },
    biases: NO_BIASES,
  },
  'experts beside attention, weights as they are': {
    ...ODD_SPEC,
    mlp: { kind: 'moe', expertCount: 3, topK: 2, normalizeTopK: false },
    activation: 'gelu-tanh',
    residual: { kind: 'parallel', norms: 1 },
  },
  'heads of 160, windows and norms': {
    ...ODD_SPEC,
    headCount: 3,
    kvHeadCount: 1,
    headDim: 160,
    qkNorm: true,
    windows: [null, 9, 66],
  },
  'heads of 256 with ALiBi': {
    ...ODD_SPEC,
    headCount: 2,
    kvHeadCount: 2,
    headDim: 256,
    positions: { kind: 'alibi', slopes: alibiSlopes(2), scaledByHeadDim: false, roundedBias: false },
  },
}
