import { signal } from '@preact/signals'
import { createLogger } from '../../src/log.ts'

/** Latest lines of the log, newest last: for a person who reports a problem. */
export const logLines = signal<readonly string[]>([])

const KEPT_LINES = 200

export function note(line: string): void {
  logLines.value = [...logLines.value.slice(1 - KEPT_LINES), line]
}

export const tabLog = createLogger('info', ({ time, level, scope, message, fields }) => {
  const detail = Object.entries(fields).map(([key, value]) => ` ${key}=${String(value)}`)
  note(`${time.toISOString()} ${level} ${scope}: ${message}${detail.join('')}`)
})
