import { useRef, useState } from 'preact/hooks'
import { settings } from '../settings/settings.ts'
import { strings } from '../strings.ts'
import { Icon } from '../ui/icon.tsx'
import { draft, send, stop } from './conversations.ts'

/** Where messages are written. */
export function Composer(props: {
  /** Shows the notice and calls back when the user has accepted it, now or before. */
  readonly withConsent: (act: () => void) => void
  readonly onEditLast: () => void
  readonly onShowPrivacy: () => void
}) {
  const [text, setText] = useState('')
  const area = useRef<HTMLTextAreaElement>(null)
  const words = strings.chat
  const answering = draft.value !== undefined
  const { sendKey } = settings.value
  const submit = () => {
    if (text.trim() === '') return
    props.withConsent(() => {
      setText('')
      void send(text)
      area.current?.focus()
    })
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'ArrowUp' && text === '') {
      event.preventDefault()
      props.onEditLast()
      return
    }
    // A key that ends a word of an input method is not for us.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    const control = event.ctrlKey || event.metaKey
    if (sendKey === 'enter' || control) {
      event.preventDefault()
      submit()
    }
  }
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <div class="composer-box">
        <textarea
          ref={area}
          id="composer"
          rows={1}
          aria-label={words.inputLabel}
          placeholder={words.placeholder}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {answering ? (
          <button type="button" class="round stop" aria-label={words.stop} title={words.stop} onClick={stop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            class="round primary"
            aria-label={words.send}
            title={words.send}
            disabled={text.trim() === ''}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
      <p class="composer-note">
        <span>
          {words.privacyShort}{' '}
          <button type="button" class="link" onClick={props.onShowPrivacy}>
            {words.privacyMore}
          </button>
        </span>
        <span class="hint">{sendKey === 'enter' ? words.hintEnter : words.hintCtrlEnter}</span>
      </p>
    </form>
  )
}
