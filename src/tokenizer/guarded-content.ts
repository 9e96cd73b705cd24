import { ChoraleError } from '../errors.ts'

/**
 * Keeps message text from becoming a special token.
 *
 * A noncharacter that occurs in no message is put between the characters of each message before the template is
 * rendered. Whatever the template does with a message – trim, split, slice, change case, put it beside its own
 * text – the message's characters stay apart, so every special spelling found in the rendered text is the template's
 * own. Then the guards are taken out again and the text is exactly what the template makes of the messages.
 *
 * What templates look for in messages must still be found, so runs of white space and the template's own string
 * constants (`</think>`) stay whole, except where one contains a special spelling. A template that decides by the
 * length of a message, or looks for text it puts together itself, sees the guards; the result is still safe.
 */
export interface Guard {
  protect(content: string): string
  /** Takes the guards out. */
  strip(text: string): string
}

/** Constants beyond this length are prose (default system prompts), not what a template looks for. */
const MAX_LITERAL = 64

/**
 * @param spellings texts that would become special tokens, not empty.
 * @param literals the template's string constants.
 * @param texts every text the guard must not occur in: messages and template.
 * @throws `bad_request` when all 32 noncharacters U+FDD0..U+FDEF occur in the texts.
 */
export function createGuard(
  spellings: readonly string[],
  literals: readonly string[],
  texts: readonly string[],
): Guard {
  const mark = unusedNoncharacter(texts)
  const folded = spellings.map((spelling) => spelling.toLowerCase())
  const spellsSpecial = (text: string) => {
    const lower = text.toLowerCase()
    return folded.some((spelling) => lower.includes(spelling))
  }
  const whole = literals.filter(
    (literal) =>
      literal.length > 1 && literal.length <= MAX_LITERAL && literal.trim() !== '' && !spellsSpecial(literal),
  )
  /** Constants no part of which, with anything beside them, could make up a special spelling. */
  const innocent = new Set(
    whole.filter((literal) => !couldBegin(literal, spellings) && !couldEnd(literal, spellings)),
  )
  const byFirst = new Map<string, string[]>()
  for (const literal of whole.toSorted((a, b) => b.length - a.length)) {
    const first = literal[0] as string
    const known = byFirst.get(first)
    if (known === undefined) byFirst.set(first, [literal])
    else known.push(literal)
  }

  /** Pieces that stay whole: white space, constants, single characters. */
  const unitsOf = (content: string): string[] => {
    const units: string[] = []
    let at = 0
    while (at < content.length) {
      const first = content[at] as string
      let unit = byFirst.get(first)?.find((literal) => content.startsWith(literal, at))
      if (unit === undefined && /\s/.test(first)) {
        const run = /\s+/y
        run.lastIndex = at
        unit = run.exec(content)?.[0]
        if (unit !== undefined && spellsSpecial(unit)) unit = undefined
      }
      unit ??= String.fromCodePoint(content.codePointAt(at) as number)
      units.push(unit)
      at += unit.length
    }
    return units
  }

  return {
    protect(content) {
      const units = unitsOf(content)
      const first = units[0]
      const last = units.at(-1)
      if (first === undefined || last === undefined) return content
      let guarded = couldEnd(first, spellings) ? mark : ''
      for (const [index, unit] of units.entries()) {
        // What is taken from beside a constant (`split('</think>')`) must begin with its own white space.
        const apart = index > 0 && !innocent.has(unit) && !innocent.has(units[index - 1] as string)
        guarded += apart ? mark + unit : unit
      }
      return guarded + (couldBegin(last, spellings) ? mark : '')
    },
    strip: (text) => text.replaceAll(mark, ''),
  }
}

/** Whether text that ends in the template could be completed to a special spelling by `unit` and what follows it. */
function couldEnd(unit: string, spellings: readonly string[]): boolean {
  for (const spelling of spellings) {
    for (let cut = 1; cut < spelling.length; cut++) {
      const rest = spelling.slice(cut)
      if (unit.startsWith(rest) || rest.startsWith(unit)) return true
    }
  }
  return false
}

/** Whether what precedes `unit` and the unit itself could begin a special spelling that the template completes. */
function couldBegin(unit: string, spellings: readonly string[]): boolean {
  for (const spelling of spellings) {
    for (let cut = 1; cut < spelling.length; cut++) {
      const start = spelling.slice(0, cut)
      if (unit.endsWith(start) || start.endsWith(unit)) return true
    }
  }
  return false
}

function unusedNoncharacter(texts: readonly string[]): string {
  for (let code = 0xfdd0; code <= 0xfdef; code++) {
    const character = String.fromCharCode(code)
    if (!texts.some((text) => text.includes(character))) return character
  }
  throw new ChoraleError(
    'bad_request',
    'the messages contain every Unicode noncharacter U+FDD0..U+FDEF: remove one',
    {
      field: 'messages',
    },
  )
}
