import type { ChoraleError } from '../errors.ts'
import { createDeadlines } from '../session/deadlines.ts'

/** Something sent that the other end must answer. */
export interface Request {
  readonly kind: 'hello' | 'open' | 'step' | 'adopt'
  readonly seq: number
  /** Position the answer must report. */
  readonly position: number
  /** Rows of hidden states the answer must carry. */
  readonly rows: number
  /** How long the answer may take once it is first in line, in milliseconds. */
  readonly timeoutMs: number
}

/** Requests in the order they were sent, which is the order they are answered in. */
export interface RequestQueue<Answer> {
  readonly length: number
  readonly head: Request | undefined
  readonly tail: Request | undefined
  add(request: Request): Promise<Answer>
  /** Takes out and rejects those of number `seq` and later. */
  drop(seq: number, error: ChoraleError): void
  /** Resolves the head. */
  answer(answer: Answer): void
  /** Rejects all. */
  fail(error: ChoraleError): void
}

/** An empty queue; `onTimeout` is called when the head waited too long. */
export function createRequestQueue<Answer>(onTimeout: (head: Request) => void): RequestQueue<Answer> {
  const waiting: {
    readonly request: Request
    readonly resolve: (answer: Answer) => void
    readonly reject: (error: ChoraleError) => void
  }[] = []
  const deadlines = createDeadlines()
  let disarm: (() => void) | undefined

  /** One timer for the answer that is first in line: those behind it can't come earlier. */
  const arm = (): void => {
    disarm?.()
    const head = waiting[0]?.request
    disarm = head && deadlines.after(head.timeoutMs, () => onTimeout(head))
  }

  return {
    get length() {
      return waiting.length
    },
    get head() {
      return waiting[0]?.request
    },
    get tail() {
      return waiting.at(-1)?.request
    },
    add: (request) =>
      new Promise((resolve, reject) => {
        waiting.push({ request, resolve, reject })
        if (waiting.length === 1) arm()
      }),
    drop: (seq, error) => {
      const at = waiting.findIndex(({ request }) => request.seq >= seq)
      if (at < 0) return
      const dropped = waiting.splice(at)
      if (at === 0) arm()
      for (const { reject } of dropped) reject(error)
    },
    answer: (answer) => {
      const head = waiting.shift()
      arm()
      head?.resolve(answer)
    },
    fail: (error) => {
      disarm?.()
      deadlines.end()
      for (const { reject } of waiting.splice(0)) reject(error)
    },
  }
}
