import { useEffect } from 'preact/hooks'
import { startNewChat } from '../chat/chat-list.tsx'
import { draft, stop } from '../chat/conversations.ts'
import { strings } from '../strings.ts'
import { Dialog } from './dialog.tsx'

/** Keys that work everywhere. */
export function useShortcuts(actions: { readonly onHelp: () => void; readonly onSearch: () => void }): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const control = event.ctrlKey || event.metaKey
      if (event.key === 'Escape' && draft.value !== undefined && document.querySelector('dialog') === null) {
        stop()
      } else if (control && event.shiftKey && event.key.toLowerCase() === 'o') startNewChat()
      else if (control && event.key === '/') actions.onHelp()
      else if (control && event.key.toLowerCase() === 'k') actions.onSearch()
      else return
      event.preventDefault()
    }
    window.addEventListener('keydown', onKeyDown)
    return () => window.removeEventListener('keydown', onKeyDown)
  }, [])
}

export function ShortcutHelp({ onClose }: { readonly onClose: () => void }) {
  const words = strings.shortcuts
  return (
    <Dialog title={words.title} onClose={onClose}>
      <dl class="rows">
        {words.list.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <div class="row end">
        <button type="button" class="primary" onClick={onClose}>
          {strings.settings.close}
        </button>
      </div>
    </Dialog>
  )
}
