import { memo } from 'preact/compat'
import { useState } from 'preact/hooks'
import { strings } from '../strings.ts'
import { CopyButton } from '../ui/copy-button.tsx'
import { formatSeconds } from '../ui/format.ts'
import { Icon, type IconName } from '../ui/icon.tsx'
import { AnswerFactsLine } from './answer-facts.tsx'
import type { Message } from './chat.ts'
import { draft, draftText, editAndSend, regenerate, removeMessage } from './conversations.ts'
import { Markdown } from './markdown.tsx'

/** One message with what can be done with it. */
export const MessageView = memo(function MessageView(props: {
  readonly chatId: string
  readonly message: Message
  /** Opens the editor at once: the key that edits the last message. */
  readonly editing: boolean
  readonly onEdited: () => void
}) {
  const { chatId, message } = props
  const [editing, setEditing] = useState(false)
  const isUser = message.role === 'user'
  if (isUser && (editing || props.editing)) {
    const done = () => {
      setEditing(false)
      props.onEdited()
    }
    return <MessageEditor chatId={chatId} message={message} onDone={done} />
  }
  return (
    <article class={`message ${message.role}`} aria-label={isUser ? strings.chat.you : strings.appName}>
      {isUser ? (
        <p class="user-text">{message.content}</p>
      ) : (
        message.content !== '' && <Markdown text={message.content} growing={false} />
      )}
      {message.problem !== undefined && (
        <p class="problem" role="alert">
          {message.problem}
        </p>
      )}
      {message.stopped === true && <p class="aside">{strings.chat.stopped}</p>}
      {message.dropped !== undefined && <p class="aside">{strings.chat.dropped(message.dropped)}</p>}
      {message.facts !== undefined && <AnswerFactsLine facts={message.facts} />}
      <div class="actions">
        {message.content !== '' && <CopyButton text={message.content} label={strings.chat.copy} />}
        {isUser ? (
          <Action icon="edit" label={strings.chat.edit} onClick={() => setEditing(true)} />
        ) : (
          <Action
            icon="retry"
            label={strings.chat.regenerate}
            onClick={() => void regenerate(chatId, message.id)}
          />
        )}
        <Action
          icon="trash"
          label={strings.chat.remove}
          onClick={() => void removeMessage(chatId, message.id)}
        />
      </div>
    </article>
  )
})

function Action(props: { readonly icon: IconName; readonly label: string; readonly onClick: () => void }) {
  return (
    <button type="button" class="small" onClick={props.onClick}>
      <Icon name={props.icon} />
      <span>{props.label}</span>
    </button>
  )
}

function MessageEditor(props: {
  readonly chatId: string
  readonly message: Message
  readonly onDone: () => void
}) {
  const { chatId, message, onDone } = props
  const [text, setText] = useState(message.content)
  const save = () => {
    if (text.trim() === '') return
    onDone()
    void editAndSend(chatId, message.id, text)
  }
  return (
    <div class="message user editor">
      <textarea
        aria-label={strings.chat.editLabel}
        value={text}
        rows={3}
        ref={(element) => {
          if (element !== null && document.activeElement !== element) element.focus()
        }}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.stopPropagation()
            onDone()
          } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save()
        }}
      />
      <div class="row end">
        <button type="button" onClick={onDone}>
          {strings.chat.cancel}
        </button>
        <button type="button" class="primary" onClick={save}>
          {strings.chat.saveAndSend}
        </button>
      </div>
    </div>
  )
}

/** The answer under way: only this re-renders when a token comes. */
export function DraftView({ waiting }: { readonly waiting: boolean }) {
  const text = draftText.value
  const { chat } = strings
  return (
    <article class="message assistant growing" aria-label={strings.appName}>
      {text === '' ? (
        <p class="thinking">
          <span class="dots" aria-hidden="true" />
          {waiting ? chat.waiting : chat.thinking}
        </p>
      ) : (
        <Markdown text={text} growing />
      )}
      {draft.value?.failovers.map(({ span, recoveryMs }, index) => (
        <p key={index} class="aside">
          {chat.failover(strings.blocks(span.start, span.end), formatSeconds(recoveryMs))}
        </p>
      ))}
    </article>
  )
}
