import type { Drafter } from './drafter.ts'

/** Longest run of tokens that is looked up; longer ones are no better a sign. */
const LONGEST = 4

/**
 * Guesses that what followed the last few tokens before will follow them again: summaries, edits, code and quotes
 * repeat their prompt. `Outlook.kind` is how many tokens matched, 1 to 4; its guesses cost nothing to make.
 *
 * Memory: four map entries a token.
 */
export function createPromptLookup(promptIds: readonly number[]): Drafter {
  const text: number[] = []
  /** For each length, the run of that many tokens → where the latest one ends, exclusive. */
  const ends = Array.from({ length: LONGEST }, () => new Map<string, number>())
  const run = (length: number, end: number) => text.slice(end - length, end).join()

  function append(id: number): void {
    // The runs that end here are entered when the next token is known: a run must not find itself.
    for (let length = 1; length <= LONGEST && length <= text.length; length++) {
      ends[length - 1]!.set(run(length, text.length), text.length)
    }
    text.push(id)
  }

  /** The longest run of last tokens that was there before: its length, and where it ended. */
  function find(): { length: number; end: number } | undefined {
    for (let length = Math.min(LONGEST, text.length); length >= 1; length--) {
      const end = ends[length - 1]!.get(run(length, text.length))
      if (end !== undefined) return { length, end }
    }
    return undefined
  }

  for (const id of promptIds) append(id)
  return {
    append,
    outlook() {
      const found = find()
      if (found === undefined) return undefined
      const most = text.length - found.end
      return { kind: found.length, most, ready: most, eachMs: 0, firstMs: 0 }
    },
    make(count) {
      const found = find()
      return found === undefined || count < 1 ? [] : text.slice(found.end, found.end + count)
    },
  }
}
