import { useState } from 'preact/hooks'
import { modelName, phase, swarmState, tabModel } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { healthOf } from '../swarm/health-badge.tsx'
import { Dialog } from './dialog.tsx'
import { formatBytes } from './format.ts'
import { ModelPicker } from './model-picker.tsx'
import { StartStatus } from './start-status.tsx'

/** The model and its state in the header; opened, what is known of it. */
export function ModelStatus() {
  const [open, setOpen] = useState(false)
  const { kind } = phase.value
  const state = swarmState.value
  const health = state === undefined ? undefined : healthOf(state)
  const words = strings.status
  const mark = kind === 'ready' ? (health?.kind ?? 'healthy') : kind
  const text =
    kind === 'ready'
      ? health?.kind === 'broken'
        ? words.busy
        : words.ready
      : kind === 'failed'
        ? words.failed
        : words.connecting
  return (
    <>
      <button type="button" class="model-status" aria-haspopup="dialog" onClick={() => setOpen(true)}>
        <span class={`dot ${mark}`} aria-hidden="true" />
        <span class="model-name">{modelName.value === '' ? strings.appName : modelName.value}</span>
        <span class="model-state">{text}</span>
      </button>
      {open && (
        <Dialog title={words.details} onClose={() => setOpen(false)}>
          <StartStatus compact />
          <ModelFacts />
          <ModelPicker onChosen={() => setOpen(false)} />
          <div class="row end">
            <button type="button" class="primary" onClick={() => setOpen(false)}>
              {strings.settings.close}
            </button>
          </div>
        </Dialog>
      )}
    </>
  )
}

function ModelFacts() {
  const words = strings.status
  const loaded = tabModel.value?.loaded
  const state = swarmState.value
  const rows: readonly (readonly [string, string | undefined])[] = [
    [words.labels.model, modelName.value],
    [words.labels.id, state?.model],
    [words.labels.blocks, state === undefined ? undefined : String(state.blocks)],
    [words.labels.state, state === undefined ? undefined : healthOf(state).text],
    [words.labels.context, loaded && words.tokens(loaded.contextLength)],
    [
      words.labels.here,
      loaded && words.bytes(formatBytes(loaded.fetchedBytes), formatBytes(loaded.cachedBytes)),
    ],
    [words.labels.engine, loaded && `${loaded.engine}: ${loaded.engineDescription}`],
    [words.labels.why, loaded?.why],
  ]
  return (
    <dl class="rows">
      {rows.map(
        ([label, text]) =>
          text !== undefined &&
          text !== '' && (
            <div key={label}>
              <dt>{label}</dt>
              <dd>{text}</dd>
            </div>
          ),
      )}
    </dl>
  )
}
