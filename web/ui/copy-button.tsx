import { useState } from 'preact/hooks'
import { strings } from '../strings.ts'
import { Icon } from './icon.tsx'

const SHOWN_MS = 1500

/** Copies `text` and says so for a moment. */
export function CopyButton({ text, label }: { readonly text: string; readonly label: string }) {
  const [copied, setCopied] = useState(false)
  const copy = async () => {
    await navigator.clipboard.writeText(text)
    setCopied(true)
    setTimeout(() => setCopied(false), SHOWN_MS)
  }
  return (
    <button type="button" class="small" onClick={() => void copy().catch(() => undefined)}>
      <Icon name={copied ? 'check' : 'copy'} />
      <span>{copied ? strings.chat.copied : label}</span>
    </button>
  )
}
