import { useEffect, useRef } from 'preact/hooks'
import { strings } from '../strings.ts'
import { CopyButton } from '../ui/copy-button.tsx'
import { sanitize } from './sanitize.ts'

/** A block of code with its language, a copy button and, once it is finished, colours. */
export function CodeBlock(props: {
  readonly code: string
  readonly language: string
  readonly finished: boolean
}) {
  const { code, finished } = props
  const language = /^[\w+#.-]{1,24}/.exec(props.language)?.[0] ?? ''
  const ref = useRef<HTMLElement>(null)
  useEffect(() => {
    const element = ref.current
    if (element === null) return undefined
    element.textContent = code
    if (!finished || language === '') return undefined
    let current = true
    // Loaded when the first code is there: most chats have none.
    void import('./highlight.ts').then(({ highlight }) => {
      const html = highlight(code, language)
      if (current && html !== undefined) element.replaceChildren(sanitize(html))
      return undefined
    })
    return () => {
      current = false
    }
  }, [code, language, finished])
  return (
    <div class="code-block">
      <div class="code-head">
        <span>{language}</span>
        <CopyButton text={code} label={strings.chat.copy} />
      </div>
      <pre tabIndex={0}>
        <code ref={ref} />
      </pre>
    </div>
  )
}
