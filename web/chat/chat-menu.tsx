import { useState } from 'preact/hooks'
import { AnswerSettingsForm } from '../settings/answer-settings-form.tsx'
import { settings } from '../settings/settings.ts'
import { strings } from '../strings.ts'
import { Dialog } from '../ui/dialog.tsx'
import { Icon } from '../ui/icon.tsx'
import { saveFile } from '../ui/save-file.ts'
import { type Chat, chatsToJson, chatToMarkdown, titleOf } from './chat.ts'
import { changeChat, removeChat } from './conversations.ts'

/** What can be done with the chat that is shown. */
export function ChatMenu({ chat }: { readonly chat: Chat }) {
  const [open, setOpen] = useState(false)
  const words = strings.chat
  return (
    <>
      <button
        type="button"
        class="bare"
        aria-label={words.menu}
        title={words.menu}
        onClick={() => setOpen(true)}
      >
        <Icon name="more" />
      </button>
      {open && (
        <Dialog title={titleOf(chat)} onClose={() => setOpen(false)}>
          <ChatMenuBody chat={chat} onClose={() => setOpen(false)} />
        </Dialog>
      )}
    </>
  )
}

function ChatMenuBody({ chat, onClose }: { readonly chat: Chat; readonly onClose: () => void }) {
  const words = strings.chat
  const file = titleOf(chat)
    .replaceAll(/[^\p{L}\p{N}]+/gu, '-')
    .slice(0, 40)
  const own = chat.settings !== undefined
  return (
    <>
      <label class="field">
        <span>{words.renameLabel}</span>
        <input
          type="text"
          maxLength={200}
          value={chat.title}
          placeholder={titleOf(chat)}
          onInput={(event) => {
            const title = event.currentTarget.value
            void changeChat(chat.id, (present) => ({ ...present, title }))
          }}
        />
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={own}
          onChange={() =>
            void changeChat(chat.id, ({ settings: _forgotten, ...rest }) =>
              own ? rest : { ...rest, settings: settings.value.answers },
            )
          }
        />
        <span>{strings.settings.useOwn}</span>
      </label>
      {chat.settings !== undefined && (
        <AnswerSettingsForm
          value={chat.settings}
          onChange={(change) => void changeChat(chat.id, (present) => ({ ...present, settings: change }))}
        />
      )}
      <div class="row">
        <button type="button" onClick={() => saveFile(`${file}.md`, 'text/markdown', chatToMarkdown(chat))}>
          {words.exportMarkdown}
        </button>
        <button
          type="button"
          onClick={() => saveFile(`${file}.json`, 'application/json', chatsToJson([chat]))}
        >
          {words.exportJson}
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            onClose()
            void removeChat(chat.id)
          }}
        >
          {words.remove}
        </button>
      </div>
      <div class="row end">
        <button type="button" class="primary" onClick={onClose}>
          {strings.settings.close}
        </button>
      </div>
    </>
  )
}
