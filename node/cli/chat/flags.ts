import type { Command } from 'commander'
import { applySetting, defaultSettings, type ChatSettings } from './settings.ts'

/** What the flags of `addChatFlags` parse to. */
export interface ChatFlags {
  greedy?: boolean
  temperature?: string
  topP?: string
  topK?: string
  minP?: string
  repetitionPenalty?: string
  seed?: string
  maxTokens?: string
  system?: string
  stop?: readonly string[]
  draft?: string
  once?: string
  json?: boolean
  raw?: boolean
  verbose?: boolean
}

/** What `--draft` is, for every verb that has it. */
export const DRAFT_HELP =
  'a small model with the same tokenizer, run here to guess ahead: the same answers in fewer round trips (default: none)'

/** Adds the flags every verb with a chat shares. */
export function addChatFlags(command: Command): Command {
  return command
    .option('--once <text>', 'answer this and end')
    .option('--json', 'with --once or a pipe: print one JSON document')
    .option('--system <text>', 'system message')
    .option('--greedy', 'always take the likeliest token (temperature 0)')
    .option('--temperature <x>', "randomness; default: the model's own, else 0.7")
    .option(
      '--top-p <x>',
      "keep the likeliest tokens up to this probability; default: the model's own, else 0.95",
    )
    .option('--top-k <n>', 'keep the n likeliest tokens; 0 = all')
    .option('--min-p <x>', 'drop tokens less likely than this share of the likeliest')
    .option('--repetition-penalty <x>', 'above 1: repeat less')
    .option('--seed <n>', 'same seed, same answer')
    .option('--max-tokens <n>', 'tokens of an answer at most')
    .option(
      '--stop <text>',
      'end the answer before this text (up to 4 times)',
      (value, all: string[] | undefined) => [...(all ?? []), value],
    )
    .option('--draft <model>', DRAFT_HELP)
    .option('--raw', 'continue the text as it is, without the chat template')
    .option('-v, --verbose', 'show speed, route and failovers after each answer')
}

/** Flags and the settings they set, in the order they are applied: --temperature wins over --greedy. */
const SETTING_FLAGS = [
  ['system', 'system'],
  ['temperature', 'temperature'],
  ['topP', 'top-p'],
  ['topK', 'top-k'],
  ['minP', 'min-p'],
  ['repetitionPenalty', 'repetition-penalty'],
  ['seed', 'seed'],
  ['maxTokens', 'max-tokens'],
] as const

/** @throws `bad_config` naming the flag and the value. */
export function settingsOf(flags: ChatFlags): ChatSettings {
  const settings = defaultSettings()
  if (flags.greedy === true) applySetting(settings, 'greedy', '')
  for (const [flag, name] of SETTING_FLAGS) {
    const value = flags[flag]
    if (value !== undefined) applySetting(settings, name, value)
  }
  for (const stop of flags.stop ?? []) applySetting(settings, 'stop', stop)
  settings.verbose = flags.verbose ?? false
  return settings
}
