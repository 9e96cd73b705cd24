import { render } from 'preact'
import { App } from './app.tsx'
import { loadChats } from './chat/conversations.ts'
import { endSession, restartSession } from './session/tab-session.ts'
import { applySettings } from './settings/settings.ts'
import { abandon } from './volunteer/volunteer.ts'

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
  // Servers need not wait for a tab that is gone to find out.
  window.addEventListener('pagehide', () => {
    abandon()
    void endSession()
  })
  window.addEventListener('pageshow', (event) => {
    if (event.persisted) void restartSession()
  })
}
