import { render } from 'preact'
import { App } from './app.tsx'
import { loadChats } from './chat/conversations.ts'
import { endSession, refreshSwarmState, restartSession } from './session/tab-session.ts'
import { applySettings } from './settings/settings.ts'

const REFRESH_MS = 10_000

const root = document.getElementById('app')
if (root !== null) {
  applySettings()
  void loadChats()
  void restartSession()
  render(<App />, root)
  // The pages open without a network then, and can be installed. Development serves sources, which change.
  if (import.meta.env.PROD && 'serviceWorker' in navigator) {
    void navigator.serviceWorker.register('./sw.js').catch(() => undefined)
  }
  // The header tells when blocks lose their last server; the Swarm page asks more often while it is shown.
  setInterval(() => {
    if (!document.hidden) void refreshSwarmState()
  }, REFRESH_MS)
  // Servers need not wait for a tab that is gone to find out.
  window.addEventListener('pagehide', () => {
    void endSession()
  })
  window.addEventListener('pageshow', (event) => {
    if (event.persisted) void restartSession()
  })
}
