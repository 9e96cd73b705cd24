import { effect, signal } from '@preact/signals'
import type { Model } from '../../src/model/model.ts'
import type { SamplingOptions } from '../../src/sampling/options.ts'

/** What shapes an answer; undefined = the model's own, or for the seed a new one each time. */
export interface AnswerSettings {
  readonly temperature: number | undefined
  readonly topP: number | undefined
  readonly maxTokens: number | undefined
  /** A decimal: 64-bit seeds do not survive a JSON number. */
  readonly seed: string | undefined
  readonly system: string | undefined
}

export interface Settings {
  readonly answers: AnswerSettings
  readonly theme: 'auto' | 'light' | 'dark'
  readonly fontSize: 'small' | 'normal' | 'large'
  readonly sendKey: 'enter' | 'ctrl-enter'
  /** Empty: the page's own host. */
  readonly gateway: string
  readonly key: string
  /** Id of the draft model that this browser runs; empty: none. */
  readonly draft: string
  /** Who is asked for a model's weights before the other one. */
  readonly weightsFrom: 'gateway' | 'peers'
  /** Megabytes a second that this tab gives of its cached weights to others while it serves. */
  readonly share: 'off' | '1' | '5' | '20'
  readonly privacyAccepted: boolean
}

export const NO_ANSWER_SETTINGS: AnswerSettings = {
  temperature: undefined,
  topP: undefined,
  maxTokens: undefined,
  seed: undefined,
  system: undefined,
}

const DEFAULTS: Settings = {
  answers: NO_ANSWER_SETTINGS,
  theme: 'auto',
  fontSize: 'normal',
  sendKey: 'enter',
  gateway: '',
  key: '',
  draft: '',
  weightsFrom: 'gateway',
  share: '1',
  privacyAccepted: false,
}

const STORE_KEY = 'chorale-settings'

/** Sampling when neither the user nor the model says more. */
const FALLBACK = { temperature: 0.7, topP: 0.95 }

export const settings = signal<Settings>(load())

export function changeSettings(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change }
}

/** The gateway that the settings name, the page's own host where they name none. */
export function gatewayOf(): { readonly url: string; readonly key: string | undefined } {
  const { gateway, key } = settings.value
  return {
    url: gateway === '' ? new URL('.', location.href).href : gateway,
    key: key === '' ? undefined : key,
  }
}

/** Keeps settings across reloads and shows theme and text size. */
export function applySettings(): void {
  effect(() => {
    const { theme, fontSize } = settings.value
    const root = document.documentElement
    if (theme === 'auto') delete root.dataset['theme']
    else root.dataset['theme'] = theme
    root.dataset['size'] = fontSize
    try {
      localStorage.setItem(STORE_KEY, JSON.stringify(settings.value))
    } catch {
      // A browser that keeps nothing still chats.
    }
  })
}

/** Sampling of one answer; draws a seed where none is set. */
export function samplingOf(
  answers: AnswerSettings,
  defaults: Model['generationDefaults'],
): SamplingOptions & { readonly seed: bigint } {
  return {
    temperature: answers.temperature ?? defaults.temperature ?? FALLBACK.temperature,
    topP: answers.topP ?? defaults.topP ?? FALLBACK.topP,
    topK: defaults.topK ?? 0,
    seed:
      answers.seed === undefined
        ? BigInt(crypto.getRandomValues(new Uint32Array(1))[0] ?? 0)
        : BigInt(answers.seed),
  }
}

/** A number of a form field in [least, most], undefined when empty. @throws RangeError otherwise. */
export function readNumber(text: string, least: number, most: number, whole: boolean): number | undefined {
  if (text.trim() === '') return undefined
  const value = Number(text)
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) throw new RangeError(text)
  return value
}

/** A seed of a form field, undefined when empty. @throws RangeError unless it is a 64-bit unsigned integer. */
export function readSeed(text: string): string | undefined {
  if (text.trim() === '') return undefined
  if (!/^\d{1,20}$/.test(text.trim()) || BigInt(text) >= 1n << 64n) throw new RangeError(text)
  return BigInt(text).toString()
}

function load(): Settings {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE_KEY) ?? '{}') as Partial<Settings>
    return checkSettings(stored)
  } catch {
    return DEFAULTS
  }
}

/** Settings of an older version, or of somebody's hand: what is unusable falls back. */
function checkSettings(stored: Partial<Settings>): Settings {
  const oneOf = <T extends string>(value: unknown, known: readonly T[], fallback: T): T =>
    known.find((candidate) => candidate === value) ?? fallback
  return {
    answers: checkAnswerSettings(stored.answers),
    theme: oneOf(stored.theme, ['auto', 'light', 'dark'], DEFAULTS.theme),
    fontSize: oneOf(stored.fontSize, ['small', 'normal', 'large'], DEFAULTS.fontSize),
    sendKey: oneOf(stored.sendKey, ['enter', 'ctrl-enter'], DEFAULTS.sendKey),
    gateway: typeof stored.gateway === 'string' ? stored.gateway : '',
    key: typeof stored.key === 'string' ? stored.key : '',
    draft: typeof stored.draft === 'string' ? stored.draft : '',
    weightsFrom: oneOf(stored.weightsFrom, ['gateway', 'peers'], DEFAULTS.weightsFrom),
    share: oneOf(stored.share, ['off', '1', '5', '20'], DEFAULTS.share),
    privacyAccepted: stored.privacyAccepted === true,
  }
}

/** Answer settings out of a file or a store; what is unusable is left out. */
export function checkAnswerSettings(value: unknown): AnswerSettings {
  const found = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const number = (key: string, least: number, most: number, whole = false) => {
    const candidate = found[key]
    try {
      return typeof candidate === 'number' ? readNumber(String(candidate), least, most, whole) : undefined
    } catch {
      return undefined
    }
  }
  const { seed, system } = found
  return {
    temperature: number('temperature', 0, 100),
    topP: number('topP', 0, 1),
    maxTokens: number('maxTokens', 1, 1e9, true),
    seed: typeof seed === 'string' && /^\d{1,20}$/.test(seed) && BigInt(seed) < 1n << 64n ? seed : undefined,
    system: typeof system === 'string' && system !== '' ? system : undefined,
  }
}
