/** A guess at how a text goes on. */
export interface Draft {
  readonly ids: readonly number[]
  /** How much of the text speaks for it: guesses of one kind are right about equally often. */
  readonly kind: number
}

/** Guesses the next tokens of one text. A wrong guess costs time, never a wrong token. */
export interface Drafter {
  /** Adds a token of the text. */
  append(id: number): void
  /** At most `count` likely next tokens; none when nothing speaks for any. */
  propose(count: number): Draft
}

/** Longest run of tokens that is looked up; longer ones are no better a sign. */
const LONGEST = 4
const NOTHING: Draft = { ids: [], kind: 0 }

/**
 * Guesses that what followed the last few tokens before will follow them again: summaries, edits, code and quotes
 * repeat their prompt. `Draft.kind` is how many tokens matched, 1 to 4.
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

  for (const id of promptIds) append(id)
  return {
    append,
    propose(count) {
      if (count < 1) return NOTHING
      for (let length = Math.min(LONGEST, text.length); length >= 1; length--) {
        const end = ends[length - 1]!.get(run(length, text.length))
        if (end !== undefined) return { ids: text.slice(end, end + count), kind: length }
      }
      return NOTHING
    },
  }
}
