import { useEffect, useState } from 'preact/hooks'
import { chatsFromJson, chatsToJson } from '../chat/chat.ts'
import { addChats, chats, removeAllChats } from '../chat/conversations.ts'
import { cachedBytes, clearCache } from '../engine/blob-cache.ts'
import { logLines } from '../session/tab-log.ts'
import { peerId, restartSession, swarmState, tabModel } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { CopyButton } from '../ui/copy-button.tsx'
import { formatBytes } from '../ui/format.ts'
import { saveFile } from '../ui/save-file.ts'
import { StartStatus } from '../ui/start-status.tsx'
import { AnswerSettingsForm } from './answer-settings-form.tsx'
import { changeSettings, settings } from './settings.ts'

/** Everything a user can set, and what is kept of him. */
export function SettingsPage() {
  const words = strings.settings
  const { answers, theme, fontSize, sendKey } = settings.value
  return (
    <div class="page-scroll" tabIndex={-1}>
      <div class="column settings">
        <h1>{words.title}</h1>
        <section>
          <h2>{words.answers}</h2>
          <p class="aside">{words.answersNote}</p>
          <AnswerSettingsForm value={answers} onChange={(change) => changeSettings({ answers: change })} />
        </section>
        <section>
          <h2>{words.look}</h2>
          <Choice
            label={words.theme}
            value={theme}
            options={words.themes}
            onChange={(change) => changeSettings({ theme: change })}
          />
          <Choice
            label={words.fontSize}
            value={fontSize}
            options={words.fontSizes}
            onChange={(change) => changeSettings({ fontSize: change })}
          />
          <Choice
            label={words.sendKey}
            value={sendKey}
            options={words.sendKeys}
            onChange={(change) => changeSettings({ sendKey: change })}
          />
        </section>
        <ConnectionSection />
        <section>
          <h2>{words.weights}</h2>
          <p class="aside">{words.weightsNote}</p>
          <Choice
            label={words.weightsFrom}
            value={settings.value.weightsFrom}
            options={words.weightsSources}
            onChange={(change) => changeSettings({ weightsFrom: change })}
          />
          <Choice
            label={words.share}
            value={settings.value.share}
            options={words.shares}
            onChange={(change) => changeSettings({ share: change })}
          />
        </section>
        <DataSection />
        <AboutSection />
      </div>
    </div>
  )
}

function Choice<T extends string>(props: {
  readonly label: string
  readonly value: T
  readonly options: Readonly<Record<T, string>>
  readonly onChange: (value: T) => void
}) {
  return (
    <label class="field inline">
      <span>{props.label}</span>
      <select
        value={props.value}
        onChange={(event) => {
          const wanted = event.currentTarget.value
          const found = keysOf(props.options).find((key) => key === wanted)
          if (found !== undefined) props.onChange(found)
        }}
      >
        {keysOf(props.options).map((key) => (
          <option key={key} value={key}>
            {props.options[key]}
          </option>
        ))}
      </select>
    </label>
  )
}

function keysOf<T extends string>(record: Readonly<Record<T, string>>): readonly T[] {
  return Object.keys(record) as T[]
}

function ConnectionSection() {
  const words = strings.settings
  const { gateway, key } = settings.value
  return (
    <section>
      <h2>{words.connection}</h2>
      <StartStatus compact />
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault()
          void restartSession()
        }}
      >
        <div class="field">
          <label for="gateway-url">{words.gateway}</label>
          <input
            id="gateway-url"
            aria-describedby="gateway-url-help"
            type="url"
            value={gateway}
            placeholder={location.origin}
            onChange={({ currentTarget }) => changeSettings({ gateway: currentTarget.value.trim() })}
          />
          <small id="gateway-url-help">{words.gatewayHelp}</small>
        </div>
        <div class="field">
          <label for="gateway-key">{words.key}</label>
          <input
            id="gateway-key"
            aria-describedby="gateway-key-help"
            type="password"
            autoComplete="off"
            value={key}
            onChange={({ currentTarget }) => changeSettings({ key: currentTarget.value.trim() })}
          />
          <small id="gateway-key-help">{words.keyHelp}</small>
        </div>
        <DraftField />
        <div class="row">
          <button type="submit">{words.reconnect}</button>
        </div>
      </form>
    </section>
  )
}

/** Which of the gateway's draft models this browser runs; nothing where there is none. */
function DraftField() {
  const words = strings.settings
  const offered = swarmState.value?.drafts ?? []
  const used = tabModel.value?.loaded.draft
  if (offered.length === 0) return null
  return (
    <div class="field">
      <label for="draft-model">{words.draft}</label>
      <select
        id="draft-model"
        aria-describedby="draft-model-help"
        value={settings.value.draft}
        onChange={({ currentTarget }) => changeSettings({ draft: currentTarget.value })}
      >
        <option value="">{words.draftNone}</option>
        {offered.map((id) => (
          <option key={id} value={id}>
            {id.replace(/@[0-9a-f]+$/, '')}
          </option>
        ))}
      </select>
      <small id="draft-model-help">
        {words.draftHelp} {used !== undefined && words.draftUsed(used)}
      </small>
    </div>
  )
}

function DataSection() {
  const words = strings.settings
  const [size, setSize] = useState<number | undefined>()
  const [note, setNote] = useState('')
  useEffect(() => void cachedBytes().then(setSize), [])
  const importFile = async (file: File | undefined) => {
    if (file === undefined) return
    try {
      const imported = chatsFromJson(await file.text())
      await addChats(imported)
      setNote(words.imported(imported.length))
    } catch {
      setNote(words.badImport)
    }
  }
  return (
    <section>
      <h2>{words.data}</h2>
      <p class="aside">{strings.chat.noChats}</p>
      <div class="row">
        <button
          type="button"
          disabled={chats.value.length === 0}
          onClick={() => saveFile('chorale-chats.json', 'application/json', chatsToJson(chats.value))}
        >
          {words.exportAll}
        </button>
        <label class="button">
          {words.importAll}
          <input
            class="sr-only"
            type="file"
            accept=".json,application/json"
            onChange={({ currentTarget }) => {
              void importFile(currentTarget.files?.[0])
              currentTarget.value = ''
            }}
          />
        </label>
        <button
          type="button"
          class="danger"
          disabled={chats.value.length === 0}
          onClick={() => {
            if (confirm(words.deleteAllSure)) void removeAllChats()
          }}
        >
          {words.deleteAll}
        </button>
      </div>
      <p role="status" class="aside">
        {note}
      </p>
      <div class="row">
        <span>{words.cache(size === undefined ? '…' : formatBytes(size))}</span>
        <button type="button" onClick={() => void clearCache().then(cachedBytes).then(setSize)}>
          {words.clearCache}
        </button>
      </div>
    </section>
  )
}

function AboutSection() {
  const words = strings.settings
  const lines = logLines.value
  return (
    <section>
      <h2>{words.about}</h2>
      <p class="aside">
        {words.peer}: <span class="mono">{peerId.value === '' ? '–' : peerId.value}</span>
      </p>
      <details>
        <summary>
          {words.log} ({lines.length})
        </summary>
        <pre class="log-lines" tabIndex={0}>
          {lines.join('\n')}
        </pre>
        <CopyButton text={lines.join('\n')} label={words.copyLog} />
      </details>
    </section>
  )
}
