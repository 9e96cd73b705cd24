import { ApiError } from './errors.ts'

/** Who may compute now: at most `running` at once, at most `waiting` in line, first come first served. */
export interface Admission {
  readonly running: number
  readonly waiting: number
  /**
   * Waits for a place and returns the function that gives it back (calling it twice is harmless).
   * @throws `ApiError` 429 when the line is full; the signal's reason when it aborts while waiting.
   */
  enter(signal: AbortSignal): Promise<() => void>
}

/** An empty line. `onChange` is told after every change of the two counts. */
export function createAdmission(
  limits: { readonly running: number; readonly waiting: number },
  onChange: (running: number, waiting: number) => void = () => undefined,
): Admission {
  let running = 0
  const line: (() => void)[] = []
  const changed = () => onChange(running, line.length)

  function admit(): () => void {
    let left = false
    return () => {
      if (left) return
      left = true
      // The place goes straight to the next in line, so that nobody can overtake.
      const next = line.shift()
      if (next === undefined) running--
      else next()
      changed()
    }
  }

  return {
    get running() {
      return running
    },
    get waiting() {
      return line.length
    },
    enter: async (signal) => {
      signal.throwIfAborted()
      if (running < limits.running) {
        running++
        changed()
        return admit()
      }
      if (line.length >= limits.waiting) {
        throw new ApiError(
          429,
          'rate_limit_error',
          `${running} answers are being computed and ${line.length} requests wait (limits ${limits.running} and ${limits.waiting}); try again later`,
          { code: 'rate_limit_exceeded' },
        )
      }
      await new Promise<void>((resolve, reject) => {
        const enter = () => {
          signal.removeEventListener('abort', leave)
          resolve()
        }
        const leave = () => {
          line.splice(line.indexOf(enter), 1)
          changed()
          reject(signal.reason)
        }
        line.push(enter)
        signal.addEventListener('abort', leave, { once: true })
        changed()
      })
      return admit()
    },
  }
}
