import { useState } from 'preact/hooks'
import { strings } from '../strings.ts'
import { Icon } from '../ui/icon.tsx'
import { goTo, hrefOf, place } from '../ui/route.ts'
import { type Chat, matches, titleOf } from './chat.ts'
import { chats, chatsLoaded } from './conversations.ts'

/** Chats of this browser, newest first, with search. */
export function ChatList({ onPick }: { readonly onPick: () => void }) {
  const [query, setQuery] = useState('')
  const words = strings.chat
  const found = chats.value.filter((chat) => matches(chat, query))
  return (
    <nav class="chat-list" aria-label={words.chats}>
      <button
        type="button"
        class="wide"
        onClick={() => {
          startNewChat()
          onPick()
        }}
      >
        <Icon name="plus" />
        <span>{words.newChat}</span>
      </button>
      <input
        id="chat-search"
        type="search"
        placeholder={words.search}
        aria-label={words.search}
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      {found.length === 0 && chatsLoaded.value ? (
        <p class="aside">{chats.value.length === 0 ? words.noChats : words.noMatch}</p>
      ) : (
        <ul>
          {found.map((chat) => (
            <ChatEntry key={chat.id} chat={chat} onPick={onPick} />
          ))}
        </ul>
      )}
    </nav>
  )
}

function ChatEntry({ chat, onPick }: { readonly chat: Chat; readonly onPick: () => void }) {
  const shown = place.value.page === 'chat' && place.value.chatId === chat.id
  return (
    <li>
      <a
        href={hrefOf('chat', chat.id)}
        {...(shown && { 'aria-current': 'page' as const })}
        onClick={onPick}
        title={titleOf(chat)}
      >
        {titleOf(chat)}
      </a>
    </li>
  )
}

/** Shows an empty chat and puts the cursor into it. */
export function startNewChat(): void {
  goTo('chat')
  requestAnimationFrame(() => document.getElementById('composer')?.focus())
}
