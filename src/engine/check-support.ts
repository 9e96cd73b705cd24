import { ChoraleError } from '../errors.ts'
import type { MlpSpec, ModelSpec, NormSpec, ResidualSpec } from '../model/spec.ts'
import type { EngineName } from './engine.ts'

/** The values of a spec that an engine computes; a model with any other is refused when it is loaded. */
export interface SupportedSpec {
  readonly norms: readonly NormSpec['kind'][]
  readonly residuals: readonly ResidualSpec['kind'][]
  readonly mlps: readonly MlpSpec['kind'][]
  readonly activations: readonly ModelSpec['activation'][]
  readonly positions: readonly ModelSpec['positions']['kind'][]
  readonly windows: boolean
  readonly qkNorm: boolean
}

/** What a Llama needs and nothing more: where an engine starts. */
export const LLAMA_SUPPORT: SupportedSpec = {
  norms: ['rms'],
  residuals: ['sequential'],
  mlps: ['gated'],
  activations: ['silu'],
  positions: ['rope'],
  windows: false,
  qkNorm: false,
}

/**
 * Refuses blocks that the engine would compute wrongly.
 * @throws `not_supported` naming the engine and the first value of the spec that it lacks.
 */
export function checkSupport(engine: EngineName, spec: ModelSpec, supported: SupportedSpec): void {
  const need = (has: boolean, field: keyof ModelSpec, what: string) => {
    if (!has) throw unsupported(engine, spec, field, what)
  }
  checkHeadSupport(engine, spec, supported)
  need(
    supported.residuals.includes(spec.residual.kind),
    'residual',
    `${spec.residual.kind} attention and mlp`,
  )
  need(supported.mlps.includes(spec.mlp.kind), 'mlp', `the ${spec.mlp.kind} mlp`)
  need(supported.activations.includes(spec.activation), 'activation', `the ${spec.activation} activation`)
  need(supported.positions.includes(spec.positions.kind), 'positions', `${spec.positions.kind} positions`)
  need(supported.windows || spec.windows.every((window) => window === null), 'windows', 'a sliding window')
  need(supported.qkNorm || !spec.qkNorm, 'qkNorm', 'norms of query and key heads')
}

/** The same for the client's part, final norm and head. @throws `not_supported`. */
export function checkHeadSupport(
  engine: EngineName,
  spec: ModelSpec,
  supported: Pick<SupportedSpec, 'norms'>,
): void {
  if (!supported.norms.includes(spec.norm.kind)) {
    throw unsupported(engine, spec, 'norm', `${spec.norm.kind} norms`)
  }
}

function unsupported(
  engine: EngineName,
  spec: ModelSpec,
  field: keyof ModelSpec,
  what: string,
): ChoraleError {
  return new ChoraleError(
    'not_supported',
    `engine ${engine} does not compute ${what} (family ${spec.family}); use --engine reference`,
    { field },
  )
}
