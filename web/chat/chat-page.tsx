import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { phase, waitsForBlocks } from '../session/tab-session.ts'
import { changeSettings, settings } from '../settings/settings.ts'
import { strings } from '../strings.ts'
import { Dialog } from '../ui/dialog.tsx'
import { Icon } from '../ui/icon.tsx'
import { StartStatus } from '../ui/start-status.tsx'
import { chatsLoaded, draft, draftText, send, shownChat } from './conversations.ts'
import { Composer } from './composer.tsx'
import { DraftView, MessageView } from './message-view.tsx'
import { MissingBlocks } from './missing-blocks.tsx'

/** Pixels from the end within which the view follows a growing answer. */
const NEAR_END = 80

/** The conversation that is shown, and where one writes. */
export function ChatPage() {
  const chat = shownChat.value
  const answering = draft.value !== undefined && draft.value.chatId === chat?.id
  const [editingLast, setEditingLast] = useState(false)
  const [privacy, setPrivacy] = useState<{ readonly act?: () => void } | undefined>()
  const { list, follow, atEnd, toEnd } = useFollow(chat?.id)

  useEffect(() => follow(), [chat?.messages.length, answering])
  const lastUser = chat?.messages.findLast(({ role }) => role === 'user')?.id
  const withConsent = (act: () => void) => (settings.value.privacyAccepted ? act() : setPrivacy({ act }))
  const empty = chat === undefined || (chat.messages.length === 0 && !answering)

  return (
    <div class="chat-page">
      <div class="messages" ref={list} tabIndex={-1}>
        <div class="column">
          {empty && chatsLoaded.value ? (
            <EmptyChat onExample={(text) => withConsent(() => void send(text))} />
          ) : (
            <div role="log" aria-label={strings.chat.log} aria-live="polite" aria-busy={answering}>
              {chat?.messages.map((message) => (
                <MessageView
                  key={message.id}
                  chatId={chat.id}
                  message={message}
                  editing={editingLast && message.id === lastUser}
                  onEdited={() => setEditingLast(false)}
                />
              ))}
              {answering && <DraftView waiting={phase.value.kind !== 'ready' || waitsForBlocks.value} />}
            </div>
          )}
        </div>
      </div>
      {answering && <FollowDraft follow={follow} />}
      <p class="sr-only" role="status">
        {answering ? strings.chat.answering : ''}
      </p>
      <div class="dock">
        {!atEnd && !empty && (
          <button type="button" class="to-end" aria-label={strings.chat.scrollDown} onClick={toEnd}>
            <Icon name="down" />
          </button>
        )}
        {!empty && <StartStatus compact />}
        <MissingBlocks />
        <Composer
          withConsent={withConsent}
          onEditLast={() => setEditingLast(lastUser !== undefined)}
          onShowPrivacy={() => setPrivacy({})}
        />
      </div>
      {privacy !== undefined && <PrivacyNotice act={privacy.act} onClose={() => setPrivacy(undefined)} />}
    </div>
  )
}

function EmptyChat({ onExample }: { readonly onExample: (text: string) => void }) {
  const words = strings.chat
  return (
    <div class="empty-chat">
      <h1>{words.emptyTitle}</h1>
      <p>{words.emptyText}</p>
      <StartStatus compact={false} />
      <ul class="examples">
        {words.examples.map((text) => (
          <li key={text}>
            <button type="button" onClick={() => onExample(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  )
}

function PrivacyNotice(props: { readonly act: (() => void) | undefined; readonly onClose: () => void }) {
  const words = strings.privacy
  const { act, onClose } = props
  return (
    <Dialog title={words.title} onClose={onClose}>
      {words.lines.map((line) => (
        <p key={line}>{line}</p>
      ))}
      <div class="row end">
        {act === undefined ? (
          <button type="button" onClick={onClose}>
            {words.close}
          </button>
        ) : (
          <button
            type="button"
            class="primary"
            onClick={() => {
              changeSettings({ privacyAccepted: true })
              onClose()
              act()
            }}
          >
            {words.accept}
          </button>
        )}
      </div>
    </Dialog>
  )
}

/** Follows each token without re-rendering the page. */
function FollowDraft({ follow }: { readonly follow: () => void }) {
  const length = draftText.value.length
  useLayoutEffect(() => follow(), [length])
  return null
}

/** Keeps the end in view while the reader is there; lets go when he scrolls up. */
function useFollow(chatId: string | undefined) {
  const list = useRef<HTMLDivElement>(null)
  const following = useRef(true)
  const [atEnd, setAtEnd] = useState(true)
  const toEnd = () => {
    following.current = true
    list.current?.scrollTo({ top: list.current.scrollHeight })
  }
  const follow = () => {
    if (following.current) toEnd()
  }
  useEffect(() => {
    const element = list.current
    if (element === null) return undefined
    const onScroll = () => {
      const near = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END
      following.current = near
      setAtEnd(near)
    }
    element.addEventListener('scroll', onScroll, { passive: true })
    return () => element.removeEventListener('scroll', onScroll)
  }, [])
  useEffect(toEnd, [chatId])
  return { list, follow, atEnd, toEnd }
}
