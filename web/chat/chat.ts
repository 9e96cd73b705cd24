import type { PeerMeasure } from '../../src/routing/snapshot.ts'
import type { RouteHop, Span } from '../../src/session/span-runner.ts'
import { type AnswerSettings, checkAnswerSettings } from '../settings/settings.ts'
import { strings } from '../strings.ts'

/** A server that was replaced under way. */
export interface FailoverFact {
  readonly span: Span
  readonly from: string
  readonly recoveryMs: number
}

/** A server of a route as this tab saw it. */
export interface MeasuredHop extends RouteHop {
  readonly rttMs?: number
  readonly path?: NonNullable<PeerMeasure['path']>
}

/** How an answer came about. */
export interface AnswerFacts {
  readonly promptTokens: number
  readonly completionTokens: number
  readonly firstTokenMs: number
  readonly decodeMs: number
  readonly seed: string
  readonly greedy: boolean
  readonly route: readonly MeasuredHop[]
  readonly failovers: readonly FailoverFact[]
  readonly model: string
  /** Peers that signed receipts of their work; the receipts themselves stay in memory, under `receipts`. */
  readonly signedBy?: readonly string[]
  readonly receipts?: string
}

export interface Message {
  readonly id: string
  readonly role: 'user' | 'assistant'
  readonly content: string
  readonly at: number
  readonly facts?: AnswerFacts
  /** The user stopped it. */
  readonly stopped?: boolean
  /** Why there is no answer, or not all of it. */
  readonly problem?: string
  /** Messages from the front that were left out of the prompt. */
  readonly dropped?: number
}

/** One conversation, as it is kept. */
export interface Chat {
  readonly id: string
  readonly title: string
  readonly createdAt: number
  readonly updatedAt: number
  readonly messages: readonly Message[]
  /** Its own settings; undefined = those of the Settings page. */
  readonly settings?: AnswerSettings
}

export function newChat(now: number): Chat {
  return { id: crypto.randomUUID(), title: '', createdAt: now, updatedAt: now, messages: [] }
}

export function newMessage(role: Message['role'], content: string, now: number): Message {
  return { id: crypto.randomUUID(), role, content, at: now }
}

const TITLE_LENGTH = 60

/** What to call a chat that nobody named. */
export function titleOf(chat: Chat): string {
  if (chat.title !== '') return chat.title
  const first = chat.messages[0]?.content.replaceAll(/\s+/g, ' ').trim() ?? ''
  if (first === '') return strings.chat.untitled
  return first.length > TITLE_LENGTH ? `${first.slice(0, TITLE_LENGTH - 1)}…` : first
}

export function matches(chat: Chat, query: string): boolean {
  const wanted = query.trim().toLowerCase()
  if (wanted === '') return true
  return [titleOf(chat), ...chat.messages.map(({ content }) => content)].some((text) =>
    text.toLowerCase().includes(wanted),
  )
}

export function chatToMarkdown(chat: Chat): string {
  const turns = chat.messages.map(
    ({ role, content }) => `## ${role === 'user' ? strings.chat.you : strings.appName}\n\n${content}\n`,
  )
  return `# ${titleOf(chat)}\n\n${turns.join('\n')}`
}

/** Chats as a file. */
export function chatsToJson(chats: readonly Chat[]): string {
  return JSON.stringify({ format: 'chorale-chats', version: 1, chats }, undefined, 2)
}

/** Defends the store against a file that is none. */
const MAX_IMPORTED_CHATS = 10_000
const MAX_MESSAGES = 10_000
const MAX_TEXT = 1_000_000

/** Reads a file of `chatsToJson`; facts are not taken over. @throws Error when it is none. */
export function chatsFromJson(text: string): Chat[] {
  const value = JSON.parse(text) as { format?: unknown; chats?: unknown } | null
  if (value?.format !== 'chorale-chats' || !Array.isArray(value.chats)) throw new Error('no chats')
  if (value.chats.length > MAX_IMPORTED_CHATS) throw new Error('too many chats')
  return value.chats.map(readChat)
}

function readChat(value: unknown): Chat {
  const { title, createdAt, messages, settings } = (value ?? {}) as Record<string, unknown>
  if (!Array.isArray(messages) || messages.length > MAX_MESSAGES) throw new Error('no messages')
  const at = typeof createdAt === 'number' && Number.isFinite(createdAt) ? createdAt : Date.now()
  return {
    ...newChat(at),
    title: typeof title === 'string' ? title.slice(0, 200) : '',
    messages: messages.map((message) => readMessage(message, at)),
    ...(settings !== undefined && { settings: checkAnswerSettings(settings) }),
  }
}

function readMessage(value: unknown, at: number): Message {
  const { role, content } = (value ?? {}) as Record<string, unknown>
  if ((role !== 'user' && role !== 'assistant') || typeof content !== 'string' || content.length > MAX_TEXT) {
    throw new Error('no message')
  }
  return newMessage(role, content, at)
}
