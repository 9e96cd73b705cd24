import { computed, signal } from '@preact/signals'
import { errorCode, errorMessage } from '../../src/errors.ts'
import type { ChatMessage } from '../../src/tokenizer/tokenizer.ts'
import { beginReceipts, signersOf } from '../network/answer-receipts.ts'
import {
  measuredRoute,
  modelDefaults,
  modelName,
  refreshSwarmState,
  waitForModel,
} from '../session/tab-session.ts'
import { NO_ANSWER_SETTINGS, samplingOf, settings } from '../settings/settings.ts'
import { problemText } from '../session/problem-text.ts'
import { goTo, place } from '../ui/route.ts'
import { type AnswerFacts, type Chat, type FailoverFact, type Message, newChat, newMessage } from './chat.ts'
import { type ChatStore, openChatStore } from './chat-store.ts'
import { frameByFrame } from './frame-by-frame.ts'

/** The chats of this browser and the answer under way; at most one answer runs in a tab. */

export const chats = signal<readonly Chat[]>([])
export const chatsLoaded = signal(false)

/** The chat that is shown; undefined = a new one. */
export const shownChat = computed(() => chats.value.find(({ id }) => id === place.value.chatId))

/** The answer that is being written. Its text has a signal of its own: a token re-renders one message. */
export interface Draft {
  readonly chatId: string
  readonly failovers: readonly FailoverFact[]
  readonly startedAt: number
}
export const draft = signal<Draft | undefined>(undefined)
export const draftText = signal('')

let store: Promise<ChatStore> | undefined
let stopAnswer: AbortController | undefined

export async function loadChats(): Promise<void> {
  store ??= openChatStore()
  chats.value = await (await store).list()
  chatsLoaded.value = true
}

async function keep(chat: Chat): Promise<void> {
  const touched = { ...chat, updatedAt: Date.now() }
  chats.value = [touched, ...chats.value.filter(({ id }) => id !== chat.id)]
  await (await (store ??= openChatStore())).put(touched)
}

export async function changeChat(id: string, change: (chat: Chat) => Chat): Promise<void> {
  const chat = chats.value.find((candidate) => candidate.id === id)
  if (chat !== undefined) await keep(change(chat))
}

export async function removeChat(id: string): Promise<void> {
  if (draft.value?.chatId === id) stop()
  chats.value = chats.value.filter((chat) => chat.id !== id)
  if (place.value.chatId === id) goTo('chat')
  await (await (store ??= openChatStore())).remove(id)
}

export async function removeAllChats(): Promise<void> {
  stop()
  chats.value = []
  await (await (store ??= openChatStore())).clear()
}

export async function addChats(imported: readonly Chat[]): Promise<void> {
  for (const chat of [...imported].reverse()) await keep(chat)
}

/** Stops the answer under way; what is there stays. */
export function stop(): void {
  stopAnswer?.abort()
}

/** Sends a message in the shown chat, or in a new one. */
export async function send(text: string): Promise<void> {
  const now = Date.now()
  const chat = shownChat.value ?? newChat(now)
  const messages = [...chat.messages, newMessage('user', text, now)]
  const started = keep({ ...chat, messages })
  if (place.value.chatId !== chat.id) goTo('chat', chat.id, true)
  await started
  await answer(chat.id)
}

/** Answers anew from before message `id`, an answer of the shown chat. */
export async function regenerate(chatId: string, id: string): Promise<void> {
  stop()
  await changeChat(chatId, (chat) => ({ ...chat, messages: before(chat, id) }))
  await answer(chatId)
}

/** Replaces one of the user's messages, forgets what came after and answers. */
export async function editAndSend(chatId: string, id: string, text: string): Promise<void> {
  stop()
  await changeChat(chatId, (chat) => ({
    ...chat,
    messages: [...before(chat, id), newMessage('user', text, Date.now())],
  }))
  await answer(chatId)
}

export async function removeMessage(chatId: string, id: string): Promise<void> {
  await changeChat(chatId, (chat) => ({
    ...chat,
    messages: chat.messages.filter((message) => message.id !== id),
  }))
}

function before(chat: Chat, id: string): readonly Message[] {
  const index = chat.messages.findIndex((message) => message.id === id)
  return index < 0 ? chat.messages : chat.messages.slice(0, index)
}

/** What the model is shown: turns that alternate, because many chat templates refuse others. */
export function turnsOf(chat: Chat): ChatMessage[] {
  const turns: ChatMessage[] = []
  for (const { role, content } of chat.messages) {
    const last = turns.at(-1)
    if (content === '') continue
    if (last?.role === role) turns[turns.length - 1] = { role, content: `${last.content}\n\n${content}` }
    else turns.push({ role, content })
  }
  return turns
}

let running: Promise<void> = Promise.resolve()

/** Answers the last message of a chat. Answers of one tab take turns; a new one stops the one before. */
async function answer(chatId: string): Promise<void> {
  stop()
  const turn = running.then(() => runAnswer(chatId))
  running = turn.catch(() => undefined)
  await turn
}

async function runAnswer(chatId: string): Promise<void> {
  const chat = chats.value.find(({ id }) => id === chatId)
  if (chat === undefined || chat.messages.length === 0) return
  const controller = new AbortController()
  stopAnswer = controller
  const { signal } = controller
  const answers = chat.settings ?? settings.value.answers ?? NO_ANSWER_SETTINGS
  const failovers: FailoverFact[] = []
  let text = ''
  let dropped = 0
  let rest: Pick<Message, 'facts' | 'problem' | 'stopped'> = {}
  draft.value = { chatId, failovers, startedAt: Date.now() }
  draftText.value = ''
  const show = frameByFrame(() => (draftText.value = text))
  try {
    const model = await waitForModel(signal)
    const sampling = samplingOf(answers, modelDefaults())
    const receipts = crypto.randomUUID()
    beginReceipts(receipts)
    const done = await model.answer(
      {
        messages: turnsOf(chat),
        system: answers.system,
        maxTokens: answers.maxTokens,
        sampling,
      },
      {
        onText: (piece) => {
          text += piece
          show.soon()
        },
        onFailover: ({ span, from, recoveryMs }) => {
          failovers.push({ span, from, recoveryMs })
          draft.value = { chatId, failovers: [...failovers], startedAt: draft.value?.startedAt ?? 0 }
        },
        onDropped: (count) => {
          dropped = count
        },
      },
      signal,
    )
    const facts: AnswerFacts = {
      ...done.usage,
      firstTokenMs: done.timings.firstTokenMs,
      decodeMs: done.timings.decodeMs,
      seed: sampling.seed.toString(),
      greedy: sampling.temperature === 0,
      route: measuredRoute(done.route),
      failovers,
      model: modelName.value,
      signedBy: signersOf(receipts),
      receipts,
    }
    rest = done.finishReason === 'cancelled' ? { stopped: true, facts } : { facts }
  } catch (error) {
    rest =
      signal.aborted || errorCode(error) === 'cancelled'
        ? { stopped: true }
        : { problem: problemText(errorCode(error), errorMessage(error)) }
    // What is missing is shown, and what one can do about it.
    if (errorCode(error) === 'no_chain') void refreshSwarmState()
  } finally {
    show.end()
  }
  const message = { ...newMessage('assistant', text, Date.now()), ...rest, ...(dropped > 0 && { dropped }) }
  // Something was said, or there is something to say about it.
  if (text !== '' || rest.problem !== undefined) {
    await changeChat(chatId, (present) => ({ ...present, messages: [...present.messages, message] }))
  }
  draft.value = undefined
  draftText.value = ''
}
