import { describe, expect, it } from 'vitest'
import { PAGE_HEADERS } from '../../node/web-pages.ts'
import { chatsFromJson, chatsToJson, newChat, newMessage } from '../../web/chat/chat.ts'
import { dialable } from '../../web/network/dialable.ts'
import { checkAnswerSettings, NO_ANSWER_SETTINGS, readNumber, readSeed } from '../../web/settings/settings.ts'
import { coverageOf, uncovered, weakestBlocks } from '../../web/swarm/coverage.ts'
import type { ServerView } from '../../web/session/gateway.ts'

describe('PAGE_HEADERS', () => {
  it('let no inline script, no eval and no third party in', () => {
    const policy = PAGE_HEADERS['content-security-policy'] ?? ''
    expect(policy).toMatch(/default-src 'none'/)
    expect(policy).not.toMatch(/unsafe-inline|'unsafe-eval'|https:|http:|data:|\*/)
  })
})

describe('dialable', () => {
  const id = '/p2p/12D3KooWHpsiHsHxmYj1Eq6qm6cF1Ef9nxmDM5dpZx3G85PZwaY1'
  const tcp = `/ip4/192.0.2.7/tcp/4001${id}`
  const ws = `/ip4/192.0.2.7/tcp/4002/ws${id}`
  const wss = `/dns4/a.example/tcp/443/tls/sni/a.example/ws${id}`
  const loopback = `/ip4/127.0.0.1/tcp/4002/ws${id}`

  it('takes WebSockets, each once', () => {
    expect(dialable([tcp, ws, wss, ws], false)).toEqual([ws, wss])
  })

  it('takes only secure ones and loopback from a secure page, as browsers do', () => {
    expect(dialable([ws, wss, loopback], true)).toEqual([wss, loopback])
  })
})

describe('coverage', () => {
  const server = (start: number, end: number, state: ServerView['state'] = 'online') =>
    ({ peer: `${start}`, start, end, state }) as ServerView

  it('counts servers that are online, and finds the blocks that are short', () => {
    const servers = [server(0, 3), server(2, 5), server(4, 6, 'draining')]
    const coverage = coverageOf({ blocks: 6, servers })
    expect(coverage).toEqual([1, 1, 2, 1, 1, 0])
    expect(weakestBlocks(coverage)).toEqual([5])
    expect(uncovered(coverage)).toEqual([{ start: 5, end: 6 }])
  })

  it('calls no block the weakest when all are alike', () => {
    expect(weakestBlocks([2, 2, 2])).toEqual([])
  })
})

describe('chatsFromJson', () => {
  const chat = {
    ...newChat(1),
    title: 'Fox',
    messages: [newMessage('user', 'hello', 1), newMessage('assistant', 'hi', 2)],
    settings: { ...NO_ANSWER_SETTINGS, temperature: 0, seed: '18446744073709551615' },
  }

  it('reads what chatsToJson writes, under new ids', () => {
    const [read] = chatsFromJson(chatsToJson([chat]))
    expect(read).toMatchObject({ title: 'Fox', settings: chat.settings })
    expect(read?.messages.map(({ role, content }) => [role, content])).toEqual([
      ['user', 'hello'],
      ['assistant', 'hi'],
    ])
    expect(read?.id).not.toBe(chat.id)
  })

  it.each(['{', 'null', '[]', '{"format":"chorale-chats"}', '{"format":"chorale-chats","chats":[{}]}'])(
    'refuses %s',
    (text) => {
      expect(() => chatsFromJson(text)).toThrow()
    },
  )

  it('refuses a message of another role or kind', () => {
    const file = (message: unknown) =>
      JSON.stringify({ format: 'chorale-chats', version: 1, chats: [{ messages: [message] }] })
    expect(() => chatsFromJson(file({ role: 'system', content: 'x' }))).toThrow()
    expect(() => chatsFromJson(file({ role: 'user', content: { html: 'x' } }))).toThrow()
  })
})

describe('answer settings', () => {
  it('bound numbers and seeds', () => {
    expect(readNumber(' ', 0, 1, false)).toBeUndefined()
    expect(readNumber('0.5', 0, 1, false)).toBe(0.5)
    for (const bad of ['2', '-1', 'x', 'NaN']) expect(() => readNumber(bad, 0, 1, false)).toThrow(RangeError)
    expect(() => readNumber('1.5', 1, 9, true)).toThrow(RangeError)
    expect(readSeed('18446744073709551615')).toBe('18446744073709551615')
    for (const bad of ['18446744073709551616', '-1', '1.5']) expect(() => readSeed(bad)).toThrow(RangeError)
  })

  it('leave out what is unusable in a stored one', () => {
    expect(checkAnswerSettings({ temperature: '0', topP: 2, maxTokens: 8, seed: 1, system: '' })).toEqual({
      ...NO_ANSWER_SETTINGS,
      maxTokens: 8,
    })
  })
})
