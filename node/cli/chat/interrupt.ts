/** A signal that aborts when the process is asked to end, until `release`. */
export interface Interrupt {
  readonly signal: AbortSignal
  release(): void
}

const EXIT_INTERRUPTED = 130

/**
 * Turns SIGINT, SIGTERM and SIGHUP into an abort, so that what runs can end in order; asked twice, the process ends
 * at once. A terminal chat reads Ctrl-C itself and never gets here with it.
 */
export function catchInterrupt(): Interrupt {
  const controller = new AbortController()
  const listener = () => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED)
    controller.abort()
  }
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const name of names) process.on(name, listener)
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, listener)
    },
  }
}
