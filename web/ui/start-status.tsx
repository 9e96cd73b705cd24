import { phase, restartSession } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { formatBytes } from './format.ts'

/** How far the model is, with one progress bar; nothing once it is ready. */
export function StartStatus({ compact }: { readonly compact: boolean }) {
  const now = phase.value
  const words = strings.status
  if (now.kind === 'ready') return null
  const style = compact ? 'start-status compact' : 'start-status'
  if (now.kind === 'failed') {
    return (
      <div class={style}>
        <p class="problem" role="alert">
          {now.problem}
        </p>
        <button type="button" onClick={() => void restartSession()}>
          {words.retry}
        </button>
      </div>
    )
  }
  const loading = now.kind === 'loading' ? now : undefined
  const text =
    loading === undefined
      ? words.connecting
      : words.loading(formatBytes(loading.loadedBytes), formatBytes(loading.totalBytes), loading.peers)
  return (
    <div class={style}>
      <progress
        aria-label={text}
        {...(loading !== undefined && { value: loading.loadedBytes, max: Math.max(1, loading.totalBytes) })}
      />
      <p class="aside">{text}</p>
    </div>
  )
}
