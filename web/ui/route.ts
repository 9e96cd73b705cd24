import { signal } from '@preact/signals'

export type Page = 'chat' | 'volunteer' | 'swarm' | 'wallet' | 'settings'

/** Where the page is: `#/chat/ID`, `#/volunteer`, `#/swarm`, `#/wallet`, `#/settings`. */
export interface Place {
  readonly page: Page
  readonly chatId: string | undefined
}

export function parsePlace(hash: string): Place {
  const [, page = '', id = ''] = hash.split('/')
  if (page === 'volunteer' || page === 'swarm' || page === 'wallet' || page === 'settings') {
    return { page, chatId: undefined }
  }
  return { page: 'chat', chatId: /^[\w-]{1,64}$/.test(id) ? id : undefined }
}

export const place = signal<Place>(parsePlace(location.hash))

window.addEventListener('hashchange', () => {
  place.value = parsePlace(location.hash)
})

/** Address of a page inside the app. */
export function hrefOf(page: Page, chatId?: string): string {
  return chatId === undefined ? `#/${page}` : `#/${page}/${chatId}`
}

/** Goes there without a new entry in the history when it only names the chat that is shown. */
export function goTo(page: Page, chatId?: string, replace = false): void {
  const href = hrefOf(page, chatId)
  if (replace) history.replaceState(null, '', href)
  else location.hash = href
  place.value = parsePlace(href)
}
