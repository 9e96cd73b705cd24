import { useId, useState } from 'preact/hooks'
import { modelDefaults } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { type AnswerSettings, readNumber, readSeed, samplingOf, NO_ANSWER_SETTINGS } from './settings.ts'

/** Fields of what shapes an answer; an unusable value is marked and not taken. */
export function AnswerSettingsForm(props: {
  readonly value: AnswerSettings
  readonly onChange: (value: AnswerSettings) => void
}) {
  const { value, onChange } = props
  const words = strings.settings
  const own = samplingOf(NO_ANSWER_SETTINGS, modelDefaults())
  const set = (change: Partial<AnswerSettings>) => onChange({ ...value, ...change })
  return (
    <div class="form">
      <Field
        label={words.temperature}
        help={words.temperatureHelp}
        value={value.temperature}
        placeholder={words.modelDefault(String(own.temperature))}
        range="a number from 0 to 100"
        read={(text) => set({ temperature: readNumber(text, 0, 100, false) })}
      />
      <Field
        label={words.topP}
        help={words.topPHelp}
        value={value.topP}
        placeholder={words.modelDefault(String(own.topP))}
        range="a number from 0 to 1"
        read={(text) => set({ topP: readNumber(text, 0, 1, false) })}
      />
      <Field
        label={words.maxTokens}
        help={words.maxTokensHelp}
        value={value.maxTokens}
        range="a whole number from 1"
        read={(text) => set({ maxTokens: readNumber(text, 1, 1e9, true) })}
      />
      <Field
        label={words.seed}
        help={words.seedHelp}
        value={value.seed}
        range="a whole number below 2⁶⁴"
        read={(text) => set({ seed: readSeed(text) })}
      />
      <div class="field">
        <label for="system-prompt">{words.system}</label>
        <textarea
          id="system-prompt"
          aria-describedby="system-prompt-help"
          rows={2}
          value={value.system ?? ''}
          onInput={({ currentTarget }) =>
            set({ system: currentTarget.value === '' ? undefined : currentTarget.value })
          }
        />
        <small id="system-prompt-help">{words.systemHelp}</small>
      </div>
    </div>
  )
}

function Field(props: {
  readonly label: string
  readonly help: string
  readonly value: string | number | undefined
  readonly placeholder?: string
  readonly range: string
  /** @throws RangeError for an unusable text. */
  readonly read: (text: string) => void
}) {
  const [text, setText] = useState(String(props.value ?? ''))
  const [bad, setBad] = useState(false)
  const id = useId()
  const helpId = `${id}-help`
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <input
        id={id}
        type="text"
        inputMode="decimal"
        autoComplete="off"
        value={text}
        placeholder={props.placeholder ?? ''}
        aria-invalid={bad}
        aria-describedby={helpId}
        onInput={({ currentTarget }) => {
          setText(currentTarget.value)
          try {
            props.read(currentTarget.value)
            setBad(false)
          } catch {
            setBad(true)
          }
        }}
      />
      <small id={helpId}>{bad ? strings.settings.invalid(props.range) : props.help}</small>
    </div>
  )
}
