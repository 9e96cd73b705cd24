import { join } from 'node:path'
import { ChoraleError, errorMessage, isChoraleError } from '../../../src/errors.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { stateFolder } from '../../folders.ts'
import { createStyle, printable, write, type OutputStream } from '../terminal.ts'
import { ask, statsLines } from './answer.ts'
import { COMMAND_NAMES, runCommand, type ChatState } from './commands.ts'
import { fitConversation, rawPrompt, type FittedPrompt } from '../../../src/session/conversation.ts'
import { createHistoryFile } from './history-file.ts'
import { createLineReader, type InputStream, type LineReader } from './line-reader.ts'
import { answerOnce, noTemplateWords } from './once.ts'
import { defaultSettings, samplingOf, type ChatSettings } from './settings.ts'

export interface ChatOptions {
  readonly languageModel: LanguageModel
  readonly settings?: ChatSettings
  /** Answer this and end. Without it and without a terminal the prompt is what standard input holds. */
  readonly once?: string
  /** With `once` or a pipe: one JSON document instead of the text. */
  readonly json?: boolean
  /** Continue texts as they are, without the chat template and without memory. */
  readonly raw?: boolean
  /** Ends the chat, an answer under way included. */
  readonly signal?: AbortSignal
  readonly input?: InputStream
  readonly output?: OutputStream
  readonly errors?: OutputStream
  /** Folder of history and saved chats; default: the user's state folder. */
  readonly folder?: string
}

/** Characters a pipe may bring: more fits no context and would only fill the memory. */
const MAX_PIPED = 4 * 1024 * 1024

/**
 * Chats on the terminal until the user leaves; with `once`, or without a terminal, answers one prompt.
 *
 * Answers and the prompt go to `output`, everything else to `errors`. The language model stays open.
 * @returns the exit code: 0, or 130 when an answer to `once` was stopped.
 * @throws with `once` what the answer throws; the prompt on a terminal shows errors and goes on.
 */
export async function runChat(options: ChatOptions): Promise<number> {
  const input = options.input ?? process.stdin
  const output = options.output ?? process.stdout
  const errors = options.errors ?? process.stderr
  const settings = options.settings ?? defaultSettings()
  const signal = options.signal ?? new AbortController().signal
  const json = options.json ?? false
  const raw = options.raw ?? false
  const { languageModel } = options
  const prompt = options.once ?? (input.isTTY === true ? undefined : await readPipe(input))
  if (prompt !== undefined) {
    return answerOnce({ languageModel, settings, prompt, json, raw, output, errors, signal })
  }
  if (json) {
    throw new ChoraleError('bad_config', '--json needs a prompt: give it with --once TEXT or through a pipe')
  }
  const folder = options.folder ?? stateFolder()
  await converse({ languageModel, settings, raw, input, output, errors, signal, folder })
  return 0
}

interface Conversing {
  readonly languageModel: LanguageModel
  readonly settings: ChatSettings
  readonly raw: boolean
  readonly input: InputStream
  readonly output: OutputStream
  readonly errors: OutputStream
  readonly signal: AbortSignal
  readonly folder: string
}

async function converse(options: Conversing): Promise<void> {
  const { languageModel, settings, output, errors, signal } = options
  const style = createStyle(errors)
  const note = (text: string) => errors.write(`${style.dim(text)}\n`)
  const history = createHistoryFile(join(options.folder, 'chat-history'))
  const state: ChatState = {
    languageModel,
    settings,
    messages: [],
    lastDone: undefined,
    chatsFolder: join(options.folder, 'chats'),
  }
  const hasTurns = languageModel.tokenizer.hasChatTemplate && !options.raw
  // Ctrl-C: the first stops the answer or says how to leave, a second one in a row leaves.
  let interrupts = 0
  let answering: AbortController | undefined
  const reader: LineReader = createLineReader({
    input: options.input,
    output,
    history: await history.load(),
    commands: COMMAND_NAMES,
    onInterrupt: () => {
      interrupts++
      if (answering !== undefined && !answering.signal.aborted) answering.abort()
      if (interrupts > 1) reader.close()
      else if (answering === undefined) note('\nCtrl-C again or Ctrl-D leaves')
    },
  })
  const leave = () => {
    answering?.abort()
    reader.close()
  }
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()
  if (!hasTurns) note(noTemplateWords(languageModel.model.name))
  note('type a message, /? for help')
  try {
    for (;;) {
      const message = await readMessage(reader, createStyle(output).bold('>>> '))
      if (message === undefined) break
      interrupts = 0
      if (message.trim() === '') continue
      if (!message.includes('\n')) await history.append(message)
      if (message.startsWith('/')) {
        const lines = await showingErrors(errors, () => runCommand(state, message))
        if (lines === 'failed') continue
        if (lines === undefined) break
        for (const line of lines) note(printable(line))
        continue
      }
      const controller = new AbortController()
      answering = controller
      reader.mute(true)
      // Whoever leaves need not wait until the last server has heard of it.
      await Promise.race([
        showingErrors(errors, () => answer(options, state, message, hasTurns, controller, note)),
        reader.ended,
      ])
      reader.mute(false)
      answering = undefined
    }
  } finally {
    signal.removeEventListener('abort', leave)
    reader.close()
  }
}

/** Answers one message and remembers both, if anything was said. */
async function answer(
  options: Conversing,
  state: ChatState,
  message: string,
  hasTurns: boolean,
  controller: AbortController,
  note: (text: string) => void,
): Promise<void> {
  const { languageModel, settings, output, errors } = options
  const messages = hasTurns ? [...state.messages, { role: 'user' as const, content: message }] : []
  const fitted: FittedPrompt = hasTurns
    ? fitConversation(languageModel, settings.system, messages, settings.maxTokens)
    : rawPrompt(languageModel, message, settings.maxTokens)
  if (fitted.dropped > 0) {
    note(
      `the oldest ${fitted.dropped} messages no longer fit the context of ${languageModel.contextLength} tokens and are forgotten`,
    )
  }
  const sampling = samplingOf(settings, languageModel.model.generationDefaults)
  let column = 0
  const asked = await ask({
    languageModel,
    promptIds: fitted.promptIds,
    maxTokens: fitted.maxTokens,
    sampling,
    stop: settings.stop,
    signal: controller.signal,
    onText: (text) => {
      column = text.endsWith('\n') ? 0 : 1
      return write(output, printable(text))
    },
    onFailover: (words) => {
      note(`${column === 0 ? '' : '\n'}${words}`)
      column = 0
    },
  })
  await write(output, '\n')
  if (asked.cancelled) note('stopped')
  else if (asked.done?.finishReason === 'length') note('the answer reached its limit of tokens')
  state.lastDone = asked.done ?? state.lastDone
  if (hasTurns && asked.text !== '') {
    state.messages = [...messages.slice(fitted.dropped), { role: 'assistant', content: asked.text }]
  }
  if (settings.verbose && asked.done !== undefined) {
    for (const line of statsLines(asked.done, sampling.temperature === 0 ? undefined : sampling.seed)) {
      errors.write(`${createStyle(errors).dim(line)}\n`)
    }
  }
}

/** One message: a line, or all lines between two `"""`. Undefined at the end of input. */
async function readMessage(reader: LineReader, prompt: string): Promise<string | undefined> {
  const first = await reader.read(prompt)
  if (first === undefined || !first.trimStart().startsWith('"""')) return first
  const lines: string[] = []
  for (let line = first.trimStart().slice(3); ;) {
    if (line.trimEnd().endsWith('"""')) {
      lines.push(line.trimEnd().slice(0, -3))
      return lines.join('\n').replace(/^\n|\n$/g, '')
    }
    lines.push(line)
    const next = await reader.read('... ')
    if (next === undefined) return undefined
    line = next
  }
}

/** Shows an error instead of ending the chat; bugs still end it. */
async function showingErrors<T>(errors: OutputStream, run: () => Promise<T>): Promise<T | 'failed'> {
  try {
    return await run()
  } catch (error) {
    if (!isChoraleError(error)) throw error
    errors.write(`${createStyle(errors).red(printable(errorMessage(error)))}\n`)
    return 'failed'
  }
}

async function readPipe(input: InputStream): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of input) {
    text += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    if (text.length > MAX_PIPED) {
      throw new ChoraleError('limit', `the prompt on standard input is longer than ${MAX_PIPED} characters`)
    }
  }
  // The line feed that `echo` adds is no part of the prompt.
  return (text + decoder.decode()).replace(/\r?\n$/, '')
}
