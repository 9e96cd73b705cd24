import { Marked, type Token, type Tokens } from 'marked'
import { memo } from 'preact/compat'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { CodeBlock } from './code-block.tsx'
import { sanitize } from './sanitize.ts'

/** Text of a model as HTML. Models write what strangers fed them: only known tags come through, no images, no HTML. */

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escapeHtml = (text: string): string => text.replaceAll(/[&<>"']/g, (found) => escapes[found] ?? found)

const marked = new Marked({
  gfm: true,
  renderer: {
    // Shown as the text it is.
    html: ({ text }) => escapeHtml(text),
    // An image would tell a stranger's server that this answer was read.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text === '' ? href : text)}</a>`,
  },
})

/** One block of markdown; unchanged blocks of a growing answer are not touched. */
const Block = memo(
  function Block({ token }: { readonly token: Token }) {
    const ref = useRef<HTMLDivElement>(null)
    // In the frame that shows it: another one would be painted without.
    useLayoutEffect(() => {
      ref.current?.replaceChildren(plainParagraph(token) ?? sanitize(marked.parser([token])))
    }, [token.raw])
    return <div ref={ref} class="md-block" />
  },
  (before, after) => before.token.raw === after.token.raw && before.token.type === after.token.type,
)

/** Renders markdown block by block; `growing` while more text may come. */
export function Markdown({ text, growing }: { readonly text: string; readonly growing: boolean }) {
  const tokens = marked.lexer(text).filter((token) => token.type !== 'space')
  return (
    <div class="markdown">
      {tokens.map((token, index) =>
        isCode(token) ? (
          <CodeBlock
            key={index}
            code={token.text}
            language={token.lang ?? ''}
            finished={!growing || index < tokens.length - 1}
          />
        ) : (
          <Block key={index} token={token} />
        ),
      )}
    </div>
  )
}

/** A paragraph of nothing but text, which most of a growing answer is, without a parser; undefined for any other block. */
function plainParagraph(token: Token): HTMLParagraphElement | undefined {
  const inside = token.type === 'paragraph' ? (token as Tokens.Paragraph).tokens : []
  const [only] = inside
  if (inside.length !== 1 || only?.type !== 'text' || /[&<>]/.test(only.raw)) return undefined
  const paragraph = document.createElement('p')
  paragraph.textContent = only.raw
  return paragraph
}

function isCode(token: Token): token is Tokens.Code {
  return token.type === 'code'
}
