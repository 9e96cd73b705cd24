import type { GenerateDone, LanguageModel } from '../../../src/session/language-model.ts'
import type { ChatMessage } from '../../../src/tokenizer/tokenizer.ts'
import { loadChat, saveChat, savedChatPath } from './saved-chat.ts'
import { applySetting, describeSettings, SETTING_NAMES, type ChatSettings } from './settings.ts'

/** What a command may read and change. */
export interface ChatState {
  readonly languageModel: LanguageModel
  readonly settings: ChatSettings
  /** The conversation so far, without the system message. */
  messages: ChatMessage[]
  lastDone: GenerateDone | undefined
  /** Where `/save NAME` keeps chats. */
  readonly chatsFolder: string
}

interface Command {
  readonly usage: string
  readonly help: string
  /** Lines to show; undefined leaves the chat. */
  run(state: ChatState, rest: string): Promise<readonly string[] | undefined> | readonly string[] | undefined
}

const COMMANDS: Readonly<Record<string, Command>> = {
  '/set': {
    usage: '/set NAME VALUE',
    help: `change a setting: ${SETTING_NAMES.join(', ')}`,
    run: (state, rest) => {
      const [, name = '', value = ''] = /^(\S*)\s*([^]*)$/.exec(rest) ?? []
      applySetting(state.settings, name, unquote(value.trim()))
      return [`${name} is set`]
    },
  },
  '/show': {
    usage: '/show',
    help: 'show the settings',
    run: (state) => describeSettings(state.settings, state.languageModel.model.generationDefaults),
  },
  '/clear': {
    usage: '/clear',
    help: 'forget the conversation',
    run: (state) => {
      state.messages = []
      return ['the conversation is forgotten']
    },
  },
  '/save': {
    usage: '/save NAME',
    help: 'keep the conversation under a name or at a path',
    run: async (state, rest) => {
      const path = savedChatPath(state.chatsFolder, rest)
      await saveChat(path, {
        model: state.languageModel.model.id,
        system: state.settings.system ?? null,
        messages: state.messages.flatMap(({ role, content }) =>
          role === 'system' ? [] : [{ role, content }],
        ),
      })
      return [`saved to ${path}`]
    },
  },
  '/load': {
    usage: '/load NAME',
    help: 'go on with a kept conversation',
    run: async (state, rest) => {
      const saved = await loadChat(savedChatPath(state.chatsFolder, rest))
      state.messages = saved.messages
      state.settings.system = saved.system ?? undefined
      const other = saved.model === state.languageModel.model.id ? [] : [`it was held with ${saved.model}`]
      return [`${saved.messages.length} messages loaded`, ...other]
    },
  },
  '/model': {
    usage: '/model',
    help: 'show the model',
    run: ({ languageModel: { model, contextLength } }) => [
      `${model.id}: ${model.spec.family}, ${model.spec.blockCount} blocks, context of ${contextLength} tokens`,
      'to use another, leave and start chorale chat MODEL',
    ],
  },
  '/route': {
    usage: '/route',
    help: 'show who computed the last answer',
    run: ({ lastDone }) =>
      lastDone === undefined
        ? ['no answer yet']
        : [
            ...lastDone.route.map(
              ({ start, end, peer, engine }) => `blocks ${start}:${end}  ${engine}  ${peer}`,
            ),
            `${lastDone.failovers} failovers`,
          ],
  },
  '/bye': { usage: '/bye', help: 'leave (also Ctrl-D, or Ctrl-C twice)', run: () => undefined },
  '/?': { usage: '/?', help: 'show this', run: () => helpLines() },
}

const ALIASES: Readonly<Record<string, string>> = { '/help': '/?', '/exit': '/bye', '/quit': '/bye' }

/** For completion with Tab. */
export const COMMAND_NAMES: readonly string[] = [...Object.keys(COMMANDS), ...Object.keys(ALIASES)]

/**
 * Runs a line that starts with `/`.
 * @returns lines to show, or undefined to leave the chat.
 * @throws `bad_config`, `not_found`, `bad_file`.
 */
export async function runCommand(state: ChatState, line: string): Promise<readonly string[] | undefined> {
  const [name = ''] = line.split(/\s/, 1)
  const known = ALIASES[name] ?? name
  const command = Object.hasOwn(COMMANDS, known) ? COMMANDS[known] : undefined
  if (command === undefined) return [`there is no ${name.slice(0, 40)}; /? shows what there is`]
  return command.run(state, line.slice(name.length).trim())
}

function helpLines(): string[] {
  return [
    ...Object.values(COMMANDS).map(({ usage, help }) => `${usage.padEnd(17)}${help}`),
    `${'"""'.padEnd(17)}start and end a message of several lines`,
    `${'Ctrl-C'.padEnd(17)}stop the answer`,
  ]
}

/** `"a\n"` as JSON reads it, so that settings can hold line feeds and outer spaces. */
function unquote(value: string): string {
  if (!/^".*"$/.test(value)) return value
  try {
    return String(JSON.parse(value))
  } catch {
    return value
  }
}
