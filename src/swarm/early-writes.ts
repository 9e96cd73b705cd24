import { MAX_EARLY_BYTES, MAX_EARLY_STEPS } from '../protocol/limits.ts'

/** What a client sends before its session is open: a server keeps only so much by then, and the rest waits here. */
export interface EarlyWrites {
  /** Whether any step went out before the answer. */
  readonly any: boolean
  /** Sends a step of so many bytes, now or when the session is open. */
  write(bytes: number, make: () => Uint8Array): void
  /** The session is open: sends what waits. */
  release(): void
}

/** @param isOpen whether the server granted the session. */
export function createEarlyWrites(
  isOpen: () => boolean,
  send: (make: () => Uint8Array) => void,
): EarlyWrites {
  const held: (() => Uint8Array)[] = []
  let sent = { steps: 0, bytes: 0 }
  return {
    get any() {
      return sent.steps > 0
    },
    write: (bytes, make) => {
      if (!isOpen() || held.length > 0) {
        const early = { steps: sent.steps + 1, bytes: sent.bytes + bytes }
        if (held.length > 0 || early.steps > MAX_EARLY_STEPS || early.bytes > MAX_EARLY_BYTES) {
          held.push(make)
          return
        }
        sent = early
      }
      send(make)
    },
    release: () => {
      for (const make of held.splice(0)) send(make)
    },
  }
}
