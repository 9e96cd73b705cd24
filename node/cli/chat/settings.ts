import { ChoraleError } from '../../../src/errors.ts'
import type { Model } from '../../../src/model/model.ts'
import type { SamplingOptions } from '../../../src/sampling/options.ts'

/** What shapes an answer in the terminal; undefined = not set by the user. */
export interface ChatSettings {
  system: string | undefined
  temperature: number | undefined
  topP: number | undefined
  topK: number | undefined
  minP: number | undefined
  repetitionPenalty: number | undefined
  seed: number | bigint | undefined
  maxTokens: number | undefined
  stop: readonly string[]
  verbose: boolean
}

/** Nothing set: the model's own sampling. */
export function defaultSettings(): ChatSettings {
  return {
    system: undefined,
    temperature: undefined,
    topP: undefined,
    topK: undefined,
    minP: undefined,
    repetitionPenalty: undefined,
    seed: undefined,
    maxTokens: undefined,
    stop: [],
    verbose: false,
  }
}

/** Sampling for a chat when neither the user nor the model's generation_config.json says more. */
const FALLBACK = { temperature: 0.7, topP: 0.95 }

/** The user's settings, then the model's, then a chat's usual ones; a seed is drawn when none is set. */
export function samplingOf(
  settings: ChatSettings,
  defaults: Model['generationDefaults'],
): SamplingOptions & { readonly seed: number | bigint } {
  return {
    temperature: settings.temperature ?? defaults.temperature ?? FALLBACK.temperature,
    topP: settings.topP ?? defaults.topP ?? FALLBACK.topP,
    topK: settings.topK ?? defaults.topK ?? 0,
    minP: settings.minP ?? 0,
    repetitionPenalty: settings.repetitionPenalty ?? 1,
    seed: settings.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
  }
}

/** Stop strings at most, as in the HTTP API. */
const MAX_STOPS = 4

type Setter = (settings: ChatSettings, value: string) => void

const numeric =
  (
    key: 'temperature' | 'topP' | 'minP' | 'repetitionPenalty',
    name: string,
    least: number,
    most: number,
  ): Setter =>
  (settings, value) => {
    const number = Number(value)
    if (value.trim() === '' || !(number >= least && number <= most))
      refuse(name, value, `a number from ${least} to ${most}`)
    settings[key] = number
  }

const counting =
  (key: 'topK' | 'maxTokens', name: string, least: number): Setter =>
  (settings, value) => {
    const number = Number(value)
    if (!/^\d{1,15}$/.test(value) || number < least) refuse(name, value, `an integer from ${least}`)
    settings[key] = number
  }

/** By the name that flags and `/set` share. */
const SETTERS: Readonly<Record<string, Setter>> = {
  system: (settings, value) => {
    settings.system = value === '' ? undefined : value
  },
  temperature: numeric('temperature', 'temperature', 0, 100),
  'top-p': numeric('topP', 'top-p', 0, 1),
  'top-k': counting('topK', 'top-k', 0),
  'min-p': numeric('minP', 'min-p', 0, 1),
  'repetition-penalty': numeric('repetitionPenalty', 'repetition-penalty', 0.01, 100),
  'max-tokens': counting('maxTokens', 'max-tokens', 1),
  seed: (settings, value) => {
    if (value === '' || value === 'random') settings.seed = undefined
    else if (!/^\d{1,20}$/.test(value) || BigInt(value) >= 1n << 64n) {
      refuse('seed', value, 'an integer from 0 to 2^64 − 1')
    } else settings.seed = BigInt(value) <= Number.MAX_SAFE_INTEGER ? Number(value) : BigInt(value)
  },
  stop: (settings, value) => {
    const stop = value === '' ? [] : [...settings.stop, value]
    if (stop.length > MAX_STOPS) refuse('stop', value, `one of at most ${MAX_STOPS} stop strings`)
    settings.stop = stop
  },
  greedy: (settings) => {
    settings.temperature = 0
  },
  verbose: (settings, value) => {
    if (!['', 'on', 'off'].includes(value)) refuse('verbose', value, 'on or off')
    settings.verbose = value !== 'off'
  },
}

/** Names that `applySetting` knows. */
export const SETTING_NAMES: readonly string[] = Object.keys(SETTERS)

/** Sets one setting from its text. @throws `bad_config` naming the setting, the value and what it may be. */
export function applySetting(settings: ChatSettings, name: string, value: string): void {
  const setter = Object.hasOwn(SETTERS, name) ? SETTERS[name] : undefined
  if (setter === undefined) {
    throw new ChoraleError(
      'bad_config',
      `there is no setting "${name}"; there are ${SETTING_NAMES.join(', ')}`,
    )
  }
  setter(settings, value)
}

/** One line a setting, for `/show`. */
export function describeSettings(settings: ChatSettings, defaults: Model['generationDefaults']): string[] {
  const { seed: _drawn, ...effective } = samplingOf({ ...settings, seed: settings.seed ?? 0 }, defaults)
  const shown: readonly [string, unknown][] = [
    ['temperature', effective.temperature === 0 ? '0 (greedy)' : effective.temperature],
    ['top-p', effective.topP],
    ['top-k', effective.topK === 0 ? 'all' : effective.topK],
    ['min-p', effective.minP],
    ['repetition-penalty', effective.repetitionPenalty],
    ['seed', settings.seed ?? 'random'],
    ['max-tokens', settings.maxTokens ?? 'what the context has left'],
    [
      'stop',
      settings.stop.length === 0 ? 'none' : settings.stop.map((stop) => JSON.stringify(stop)).join(' '),
    ],
    ['system', settings.system ?? 'none'],
    ['verbose', settings.verbose ? 'on' : 'off'],
  ]
  return shown.map(([name, value]) => `${name.padEnd(19)}${String(value)}`)
}

function refuse(name: string, value: string, expected: string): never {
  throw new ChoraleError('bad_config', `${name} is "${value.slice(0, 60)}", it must be ${expected}`, {
    field: name,
  })
}
