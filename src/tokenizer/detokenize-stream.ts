import { ChoraleError } from '../errors.ts'
import type { Tokenizer } from './tokenizer.ts'

/** More or longer stop strings cost time at every character of every answer. */
const MAX_STOPS = 64
const MAX_STOP_LENGTH = 1024

/** Turns the ids of one answer into text as they come. */
export interface Detokenizer {
  /**
   * The text that may be shown now: whole characters, nothing that could still become part of a stop string.
   * Special tokens give none. Once a stop string is complete every further call returns ''.
   */
  push(id: number): string
  /** What was held back, at the end of the answer; a cut-off character becomes U+FFFD. */
  flush(): string
  /** The stop string that ended the text. It and what follows is never returned. */
  readonly stopped: string | undefined
}

export interface DetokenizerOptions {
  /**
   * The text ends before the first of these to be completed; of several completed by the same character, the longest
   * counts. The outcome does not depend on how the text is cut into tokens.
   */
  stop?: readonly string[]
  /** The ids continue earlier text: keep a leading space that `Tokenizer.decode` would drop. */
  continues?: boolean
}

/**
 * Everything pushed and flushed together equals `tokenizer.decode(ids)`, cut before the first stop string.
 * Each token costs O(its bytes × stop strings), however long the answer is.
 * @throws `bad_request` for empty or too many stop strings, or ids outside the vocabulary.
 */
export function createDetokenizer(tokenizer: Tokenizer, options: DetokenizerOptions = {}): Detokenizer {
  const stops = (options.stop ?? []).map(checkStop)
  if (stops.length > MAX_STOPS) {
    throw new ChoraleError('bad_request', `${stops.length} stop strings, at most ${MAX_STOPS} are allowed`, {
      field: 'stop',
    })
  }
  const matchers = stops.map(createMatcher)
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  let spacesToDrop = options.continues === true ? 0 : (tokenizer.leadingSpaces ?? 0)
  let held = ''
  let stopped: string | undefined

  const take = (text: string): string => {
    let fresh = text
    while (spacesToDrop > 0 && fresh !== '') {
      if (fresh[0] === ' ') {
        fresh = fresh.slice(1)
        spacesToDrop--
      } else spacesToDrop = 0
    }
    if (fresh === '') return ''
    if (matchers.length === 0) return fresh
    for (let index = 0; index < fresh.length; index++) {
      const unit = fresh.charCodeAt(index)
      let completed: string | undefined
      for (const matcher of matchers) {
        if (matcher.next(unit) && (completed === undefined || matcher.text.length > completed.length)) {
          completed = matcher.text
        }
      }
      if (completed !== undefined) {
        stopped = completed
        const all = held + fresh.slice(0, index + 1)
        held = ''
        return all.slice(0, all.length - completed.length)
      }
    }
    const all = held + fresh
    let keep = 0
    for (const matcher of matchers) keep = Math.max(keep, matcher.matched)
    held = all.slice(all.length - keep)
    return all.slice(0, all.length - keep)
  }

  return {
    push(id) {
      if (stopped !== undefined || tokenizer.isSpecial(id)) return ''
      return take(utf8.decode(tokenizer.tokenBytes(id), { stream: true }))
    },
    flush() {
      if (stopped !== undefined) return ''
      const text = take(utf8.decode())
      if (stopped !== undefined) return text
      const rest = text + held
      held = ''
      for (const matcher of matchers) matcher.reset()
      return rest
    },
    get stopped() {
      return stopped
    },
  }
}

interface Matcher {
  readonly text: string
  /** Length of the longest end of the text seen that begins `text`. */
  readonly matched: number
  /** Takes one UTF-16 unit; true when `text` is complete. */
  next(unit: number): boolean
  reset(): void
}

/** Knuth–Morris–Pratt over a stream of UTF-16 units. */
function createMatcher(text: string): Matcher {
  const fallback = new Uint32Array(text.length)
  for (let index = 1, length = 0; index < text.length; index++) {
    while (length > 0 && text[index] !== text[length]) length = fallback[length - 1] as number
    if (text[index] === text[length]) length++
    fallback[index] = length
  }
  let matched = 0
  return {
    text,
    get matched() {
      return matched
    },
    next(unit) {
      while (matched > 0 && text.charCodeAt(matched) !== unit) matched = fallback[matched - 1] as number
      if (text.charCodeAt(matched) === unit) matched++
      if (matched < text.length) return false
      matched = fallback[matched - 1] as number
      return true
    },
    reset() {
      matched = 0
    },
  }
}

/** @throws `bad_request`. Lone surrogates become U+FFFD as in the text they are compared with. */
function checkStop(stop: unknown): string {
  if (typeof stop !== 'string' || stop === '' || stop.length > MAX_STOP_LENGTH) {
    const shown = typeof stop === 'string' ? `of ${stop.length} characters` : `of type ${typeof stop}`
    throw new ChoraleError(
      'bad_request',
      `a stop string ${shown} is not usable: it must be text of 1 to ${MAX_STOP_LENGTH} characters`,
      { field: 'stop' },
    )
  }
  return stop.toWellFormed()
}
