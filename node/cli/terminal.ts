import { createInterface } from 'node:readline/promises'
import { once } from 'node:events'

/** A stream to write to that may be a terminal. */
export type OutputStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }

/** Colours for one stream; plain text where it is no terminal or `NO_COLOR` is set. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
  cyan(text: string): string
}

/** `NO_COLOR` (no-color.org) and `TERM=dumb` switch colours off. */
export function createStyle(stream: OutputStream, env: NodeJS.ProcessEnv = process.env): Style {
  const coloured = stream.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  const code = (on: number, off: number) => (text: string) =>
    coloured && text !== '' ? `\u001B[${on}m${text}\u001B[${off}m` : text
  return {
    bold: code(1, 22),
    dim: code(2, 22),
    red: code(31, 39),
    green: code(32, 39),
    yellow: code(33, 39),
    cyan: code(36, 39),
  }
}

/** Control characters, line and paragraph separators, and those that turn the direction of text. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u202A-\u202E\u2066-\u2069]/gu

/**
 * Text that can't steer a terminal: a model or a peer may say anything, also escape sequences. Line feeds and tabs
 * stay, other control characters become U+FFFD.
 */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, (char) => (char === '\n' || char === '\t' ? char : '\uFFFD'))
}

/** Writes and waits while the reader is slower. A reader that went away is no error: main() ends the process then. */
export async function write(stream: OutputStream, text: string): Promise<void> {
  if (text !== '' && !stream.write(text)) await once(stream, 'drain').catch(() => undefined)
}

export interface Progress {
  /** Bytes done and in all; `total` 0 when unknown, both 0 when there is nothing to count. */
  update(label: string, done: number, total: number): void
  /** Clears the line on a terminal; another phase may follow. */
  end(): void
}

/** Milliseconds between two pictures of a progress line, and between two plain lines where there is no terminal. */
const TTY_MS = 100
const PLAIN_MS = 5000

/** One progress line for `stream` (stderr): redrawn on a terminal, now and then a plain line otherwise. */
export function createProgress(stream: OutputStream, now: () => number = Date.now): Progress {
  const terminal = stream.isTTY === true
  let last = terminal ? -Infinity : now()
  let drawn = false
  return {
    update: (label, done, total) => {
      const finished = total > 0 && done >= total
      if (!finished && now() - last < (terminal ? TTY_MS : PLAIN_MS)) return
      // Without a terminal what was too quick to be shown at all needs no last line.
      last = now()
      const text = `${label}${amount(done, total)}`
      if (terminal) stream.write(`\r\u001B[K${text.slice(0, (stream.columns || 80) - 1)}`)
      else if (!finished || drawn) stream.write(`${text}\n`)
      drawn = true
    },
    end: () => {
      if (terminal && drawn) stream.write('\r\u001B[K')
      drawn = false
      last = terminal ? -Infinity : now()
    },
  }
}

function amount(done: number, total: number): string {
  if (total > 0) return ` ${formatBytes(done)} of ${formatBytes(total)} ${Math.floor((100 * done) / total)} %`
  return done > 0 ? ` ${formatBytes(done)}` : ''
}

/** Bytes for people, binary units: `512 B`, `7.1 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ''}`
}

/** Seconds for people: `0.35 s`, `12 s`. */
export function formatSeconds(ms: number): string {
  const seconds = ms / 1000
  return `${seconds >= 10 ? Math.round(seconds) : Number(seconds.toPrecision(2))} s`
}

/** Asks for a line on stderr; undefined when the input ends, or on Ctrl-C. */
export async function askLine(
  question: string,
  input: NodeJS.ReadableStream = process.stdin,
  output: OutputStream = process.stderr,
): Promise<string | undefined> {
  const lines = createInterface({ input, output })
  try {
    const ended = new Promise<undefined>((resolve) => {
      lines.once('SIGINT', () => resolve(undefined))
      lines.once('close', () => resolve(undefined))
    })
    return await Promise.race([lines.question(question), ended])
  } finally {
    lines.close()
  }
}

/** Asks a yes-or-no question on stderr; `no` where there is no terminal to answer on. */
export async function askYes(
  question: string,
  input: NodeJS.ReadableStream & { readonly isTTY?: boolean } = process.stdin,
  output: OutputStream = process.stderr,
): Promise<boolean> {
  if (input.isTTY !== true) return false
  const lines = createInterface({ input, output })
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim())
  } finally {
    lines.close()
  }
}
