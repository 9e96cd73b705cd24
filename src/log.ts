/** Logging as a port: platforms decide where lines go, the core only says what happened. Never log prompts, texts or keys. */

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>

const ORDER: Record<LogLevel, number> = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 }

export interface Logger {
  trace(message: string, fields?: LogFields): void
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** A logger whose lines carry `scope`. */
  child(scope: string): Logger
}

export interface LogLine {
  time: Date
  level: LogLevel
  scope: string
  message: string
  fields: LogFields
}

/** A logger that hands every line at or above `level` to `write`. */
export function createLogger(level: LogLevel, write: (line: LogLine) => void, scope = 'chorale'): Logger {
  const at =
    (lineLevel: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (ORDER[lineLevel] >= ORDER[level])
        write({ time: new Date(), level: lineLevel, scope, message, fields })
    }
  return {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (name) => createLogger(level, write, `${scope}:${name}`),
  }
}

/** A logger that drops everything: the default of library code and tests. */
export const silentLogger: Logger = createLogger('error', () => undefined)
