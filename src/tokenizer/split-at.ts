/** A stretch of text, or one of the spellings looked for. */
export interface Section {
  readonly text: string
  readonly match: boolean
}

interface Node {
  readonly next: Map<number, Node>
  end: boolean
}

/**
 * Cuts text at spellings: leftmost first, longest of those that begin at the same place, as Hugging Face matches
 * added tokens. O(length × longest spelling). Spellings are not empty.
 */
export function createSplitter(spellings: Iterable<string>): (text: string) => Section[] {
  const root: Node = { next: new Map(), end: false }
  for (const spelling of spellings) {
    let node = root
    for (let index = 0; index < spelling.length; index++) {
      const unit = spelling.charCodeAt(index)
      let child = node.next.get(unit)
      if (child === undefined) {
        child = { next: new Map(), end: false }
        node.next.set(unit, child)
      }
      node = child
    }
    node.end = true
  }
  return (text) => {
    const sections: Section[] = []
    let start = 0
    let at = 0
    while (at < text.length) {
      let node: Node | undefined = root
      let length = 0
      for (let index = at; index < text.length; index++) {
        node = node.next.get(text.charCodeAt(index))
        if (node === undefined) break
        if (node.end) length = index + 1 - at
      }
      if (length === 0) {
        at++
        continue
      }
      if (at > start) sections.push({ text: text.slice(start, at), match: false })
      sections.push({ text: text.slice(at, at + length), match: true })
      at += length
      start = at
    }
    if (start < text.length) sections.push({ text: text.slice(start), match: false })
    return sections
  }
}
