import { ChoraleError } from '../../../src/errors.ts'
import type { BareChromium, BareTab } from './bare-chromium.ts'

/** A page takes a moment to load its scripts. */
const LOADS_MS = 30_000
const LOOK_MS = 10

/** Opens the page in a fresh profile and sets greedy answers of `tokens` tokens, so that tab and Node do the same. */
export async function openChat(chromium: BareChromium, url: string, tokens: number): Promise<BareTab> {
  const tab = await chromium.open(`${url}#/settings`)
  // While the browser goes to the page, what runs in the empty one before is lost.
  for (const deadline = performance.now() + LOADS_MS; ;) {
    const there = await tab.run((page) => location.href.startsWith(page), url).catch(() => false)
    if (there) break
    if (performance.now() > deadline) throw new ChoraleError('timeout', `${url} did not load`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  await setField(tab, 'Temperature', '0')
  await setField(tab, 'Longest answer, tokens', String(tokens))
  await tab.run(() => {
    location.hash = '#/'
  }, undefined)
  return tab
}

/** Fills a field by its label, once it is there, and waits until the page took it. */
async function setField(tab: BareTab, label: string, value: string): Promise<void> {
  await waitFor(tab, { selector: 'label', text: label })
  await tab.run(
    async (field) => {
      const named = [...document.querySelectorAll('label')].find(({ textContent }) =>
        textContent.includes(field.label),
      )
      const input = document.getElementById(named?.htmlFor ?? '') as HTMLInputElement
      input.value = field.value
      input.dispatchEvent(new Event('input', { bubbles: true }))
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
    },
    { label, value },
  )
}

/** Waits until an element is there that matches and contains a text; the page looks only when it changed. */
export async function waitFor(
  tab: BareTab,
  wanted: { readonly selector: string; readonly text?: string },
): Promise<void> {
  await tab.run(
    ({ selector, text = '' }) =>
      new Promise<void>((resolve) => {
        const look = () => {
          const found = [...document.querySelectorAll(selector)]
          if (!found.some(({ textContent }) => textContent.includes(text))) return
          observer.disconnect()
          resolve()
        }
        const observer = new MutationObserver(look)
        observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true })
        look()
      }),
    wanted,
  )
}

/** Sends a question in a new chat, accepting the notice that comes first. */
export async function sendQuestion(tab: BareTab, question: string): Promise<void> {
  await waitFor(tab, { selector: 'button', text: 'New chat' })
  await tab.run(() => {
    const buttons = [...document.querySelectorAll('button')]
    buttons.find(({ textContent }) => textContent.includes('New chat'))?.click()
  }, undefined)
  await waitFor(tab, { selector: '.empty-chat' })
  await tab.run((text) => {
    const box = document.querySelector<HTMLTextAreaElement>('#composer')!
    box.value = text
    box.dispatchEvent(new Event('input', { bubbles: true }))
  }, question)
  await waitFor(tab, { selector: 'button[type=submit]:not(:disabled)' })
  await tab.run(() => document.querySelector<HTMLButtonElement>('button[type=submit]')?.click(), undefined)
  await waitFor(tab, { selector: 'dialog[open] button.primary, .message.assistant' })
  await tab.run(
    () => document.querySelector<HTMLButtonElement>('dialog[open] button.primary')?.click(),
    undefined,
  )
}

/** Waits until the answer is complete. @returns tokens per second after the first, as the page shows them. */
export async function answerRate(tab: BareTab): Promise<number> {
  await waitFor(tab, { selector: '.message.assistant:not(.growing) .facts summary' })
  const facts = await tab.run(
    () => document.querySelector('.message.assistant .facts summary')?.textContent ?? '',
    undefined,
  )
  const rate = /([\d.]+) tok\/s/.exec(facts)?.[1]
  if (rate === undefined) throw new ChoraleError('internal', 'the page shows no speed: ask for more --tokens')
  return Number(rate)
}
