/** A signal that aborts when the process is asked to end, until `release`. */
export interface Interrupt {
  readonly signal: AbortSignal
  release(): void
}

const EXIT_INTERRUPTED = 130
const PARENT_CHECK_MS = 200

/**
 * Turns SIGINT, SIGTERM and SIGHUP into an abort, so that what runs can end in order; asked twice, the process ends
 * at once. A terminal chat reads Ctrl-C itself and never gets here with it.
 *
 * npm passes its signals to the shell between it and this process, which ends without passing them on: under npm the
 * shell's end counts as a signal.
 */
export function catchInterrupt(): Interrupt {
  const controller = new AbortController()
  const listener = () => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED)
    controller.abort()
  }
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const name of names) process.on(name, listener)
  const parent = process.ppid
  const check = () => {
    if (process.ppid === parent) return
    clearInterval(watch)
    controller.abort()
  }
  const underNpm = process.env['npm_lifecycle_event'] !== undefined
  const watch = underNpm ? setInterval(check, PARENT_CHECK_MS).unref() : undefined
  return {
    signal: controller.signal,
    release: () => {
      clearInterval(watch)
      for (const name of names) process.off(name, listener)
    },
  }
}

/** Resolves when `signal` aborts. It keeps no process alive: a listening server or an open peer does. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
