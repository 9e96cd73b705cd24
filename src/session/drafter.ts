/** What a drafter's next guesses would be like, before they are made. */
export interface Outlook {
  /** Guesses of one kind are right about equally often: 1 to 4 of prompt lookup, 5 of a draft model. */
  readonly kind: number
  /** Most guesses there can be. */
  readonly most: number
  /** Guesses that are made already. */
  readonly ready: number
  /** Milliseconds that one more takes to make. */
  readonly eachMs: number
  /** Milliseconds until the first of those can be begun: what a draft model has to read before. */
  readonly firstMs: number
}

/** Guesses the next tokens of one text. A wrong guess costs time, never a wrong token. */
export interface Drafter {
  /** Adds a token of the text. */
  append(id: number): void
  /** What it would guess now; undefined when nothing speaks for anything. Cheap: nothing is computed. */
  outlook(): Outlook | undefined
  /** The next `count` tokens as far as it can tell, perhaps fewer; 0: none, once nothing computes any more. Never throws. */
  make(count: number): Promise<readonly number[]> | readonly number[]
  /** Goes on until `count` guesses are made, while the caller waits for others; 0 lets it rest. */
  prepare?(count: number): void
  /** Whether it computes right now, which others on this machine may feel. */
  readonly busy?: boolean
  /** Frees what it holds. */
  close?(): Promise<void>
}
