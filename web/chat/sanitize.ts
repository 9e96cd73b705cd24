import DOMPurify from 'dompurify'

const ALLOWED_TAGS = (
  'p br hr strong em del code pre blockquote ul ol li a span h1 h2 h3 h4 h5 h6 ' +
  'table thead tbody tr th td'
).split(' ')
const ALLOWED_ATTR = ['href', 'title', 'align', 'start', 'class']

/** A sanitised fragment; links open elsewhere and tell nobody where from. */
export function sanitize(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS,
    ALLOWED_ATTR,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    RETURN_DOM_FRAGMENT: true,
  })
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank'
    link.rel = 'noopener noreferrer nofollow'
  }
  for (const cell of fragment.querySelectorAll('[class]')) {
    // Class names are for highlighted code; others could dress text up as a part of the page.
    if (![...cell.classList].every((name) => name.startsWith('hljs'))) cell.removeAttribute('class')
  }
  // Tables scroll by themselves on narrow screens.
  for (const table of fragment.querySelectorAll('table')) {
    const box = document.createElement('div')
    box.className = 'table-scroll'
    box.tabIndex = 0
    table.replaceWith(box)
    box.append(table)
  }
  return fragment
}
