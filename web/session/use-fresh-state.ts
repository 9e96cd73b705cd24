import { useEffect } from 'preact/hooks'
import { followSwarmState, refreshSwarmState } from './tab-session.ts'

/** How often the gateway is asked where it can't push, and how often it is tried whether it can. */
const REFRESH_MS = 2000
const FOLLOW_AGAIN_MS = 30_000

/** Keeps the state new until `ended`: pushed by the gateway, else asked for. */
async function keepNew(ended: AbortSignal): Promise<void> {
  while (!ended.aborted) {
    await followSwarmState(ended).catch(() => undefined)
    const again = performance.now() + FOLLOW_AGAIN_MS
    while (!ended.aborted && performance.now() < again) {
      await refreshSwarmState()
      await new Promise((resolve) => setTimeout(resolve, REFRESH_MS))
    }
  }
}

/** Keeps the swarm's state new while the component is shown, `wanted` and the page is on the screen, or `whileHidden` too. */
export function useFreshState(wanted = true, whileHidden = false): void {
  useEffect(() => {
    if (!wanted) return undefined
    let shown: AbortController | undefined
    const onChange = () => {
      shown?.abort()
      shown = document.hidden && !whileHidden ? undefined : new AbortController()
      if (shown !== undefined) void keepNew(shown.signal)
    }
    onChange()
    document.addEventListener('visibilitychange', onChange)
    return () => {
      document.removeEventListener('visibilitychange', onChange)
      shown?.abort()
    }
  }, [wanted, whileHidden])
}
