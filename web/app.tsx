import { useEffect, useState } from 'preact/hooks'
import { ChatList } from './chat/chat-list.tsx'
import { ChatMenu } from './chat/chat-menu.tsx'
import { titleOf } from './chat/chat.ts'
import { shownChat } from './chat/conversations.ts'
import { waitsForBlocks } from './session/tab-session.ts'
import { useFreshState } from './session/use-fresh-state.ts'
import { strings } from './strings.ts'
import { Icon, type IconName } from './ui/icon.tsx'
import { ModelStatus } from './ui/model-status.tsx'
import { hrefOf, type Page, place } from './ui/route.ts'
import { ShortcutHelp, useShortcuts } from './ui/shortcuts.tsx'
import { lazyPage } from './ui/lazy-page.tsx'

const PAGES: readonly { readonly page: Page; readonly icon: IconName }[] = [
  { page: 'chat', icon: 'chat' },
  { page: 'volunteer', icon: 'volunteer' },
  { page: 'swarm', icon: 'swarm' },
  { page: 'wallet', icon: 'wallet' },
  { page: 'settings', icon: 'settings' },
]

const ChatPage = lazyPage(async () => (await import('./chat/chat-page.tsx')).ChatPage)
const SettingsPage = lazyPage(async () => (await import('./settings/settings-page.tsx')).SettingsPage)
const SwarmPage = lazyPage(async () => (await import('./swarm/swarm-page.tsx')).SwarmPage)
const VolunteerPage = lazyPage(async () => (await import('./volunteer/volunteer-page.tsx')).VolunteerPage)
const WalletPage = lazyPage(async () => (await import('./wallet/wallet-page.tsx')).WalletPage)

/** The frame around all pages: list of chats, header, content. */
export function App() {
  const [listOpen, setListOpen] = useState(false)
  const [help, setHelp] = useState(false)
  const { page } = place.value
  // A message may wait for servers while another page, or another tab, is looked at.
  useFreshState(waitsForBlocks.value, true)
  useShortcuts({
    onHelp: () => setHelp(true),
    onSearch: () => {
      setListOpen(true)
      requestAnimationFrame(() => document.getElementById('chat-search')?.focus())
    },
  })
  const chat = page === 'chat' ? shownChat.value : undefined
  const title = page === 'chat' ? (chat === undefined ? '' : titleOf(chat)) : strings.nav[page]
  useEffect(() => {
    document.title = title === '' ? strings.appName : `${title} · ${strings.appName}`
  }, [title])
  return (
    <div class={`app ${listOpen ? 'list-open' : ''}`}>
      <button type="button" class="skip" onClick={() => document.getElementById('content')?.focus()}>
        {strings.nav.skip}
      </button>
      <aside class="sidebar" id="sidebar">
        <div class="brand">
          <img src="./icon.svg" alt="" width="28" height="28" />
          <span>{strings.appName}</span>
          <button
            type="button"
            class="bare narrow-only"
            aria-label={strings.chat.closeList}
            onClick={() => setListOpen(false)}
          >
            <Icon name="close" />
          </button>
        </div>
        <ChatList onPick={() => setListOpen(false)} />
        <nav class="pages" aria-label={strings.nav.label}>
          {PAGES.map((entry) => (
            <a
              key={entry.page}
              href={hrefOf(entry.page)}
              {...(page === entry.page && { 'aria-current': 'page' as const })}
              onClick={() => setListOpen(false)}
            >
              <Icon name={entry.icon} />
              <span>{strings.nav[entry.page]}</span>
            </a>
          ))}
        </nav>
      </aside>
      {listOpen && <div class="veil" onClick={() => setListOpen(false)} />}
      <div class="main">
        <header>
          <button
            type="button"
            class="bare narrow-only"
            aria-label={strings.chat.openList}
            aria-expanded={listOpen}
            aria-controls="sidebar"
            onClick={() => setListOpen(true)}
          >
            <Icon name="menu" />
          </button>
          {chat === undefined ? <span class="chat-title">{title}</span> : <h1 class="chat-title">{title}</h1>}
          <ModelStatus />
          {chat !== undefined && <ChatMenu key={chat.id} chat={chat} />}
          <button
            type="button"
            class="bare wide-only"
            aria-label={strings.shortcuts.open}
            title={strings.shortcuts.open}
            onClick={() => setHelp(true)}
          >
            <Icon name="keyboard" />
          </button>
        </header>
        <main id="content" tabIndex={-1}>
          {page === 'chat' && <ChatPage />}
          {page === 'volunteer' && <VolunteerPage />}
          {page === 'swarm' && <SwarmPage />}
          {page === 'wallet' && <WalletPage />}
          {page === 'settings' && <SettingsPage />}
        </main>
      </div>
      {help && <ShortcutHelp onClose={() => setHelp(false)} />}
    </div>
  )
}
