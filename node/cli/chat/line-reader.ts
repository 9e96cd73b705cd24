import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import type { OutputStream } from '../terminal.ts'

export type InputStream = NodeJS.ReadableStream & { readonly isTTY?: boolean }

/** Lines typed on a terminal, with editing and history. */
export interface LineReader {
  /** The next line without its line feed; undefined after Ctrl-D. Lines typed during an answer come first. */
  read(prompt: string): Promise<string | undefined>
  /** Hides what is typed while an answer is being written; Ctrl-C still counts. */
  mute(muted: boolean): void
  /** Resolves when no more lines will come. */
  readonly ended: Promise<void>
  close(): void
}

export interface LineReaderOptions {
  readonly input: InputStream
  readonly output: OutputStream
  /** Newest first. */
  readonly history: readonly string[]
  readonly onInterrupt: () => void
  /** Completions of a line that starts with `/`. */
  readonly commands: readonly string[]
}

/** Lines typed ahead that are kept: pasted text must not grow without bound while an answer runs. */
const MAX_TYPED_AHEAD = 1000
const HISTORY_LINES = 1000

/** A reader over readline; it holds the terminal in raw mode until closed. */
export function createLineReader(options: LineReaderOptions): LineReader {
  const { input, output } = options
  let muted = false
  let closed = false
  let waiting: ((line: string | undefined) => void) | undefined
  const typedAhead: string[] = []
  const lines = createInterface({
    input,
    output: gate(output, () => muted),
    terminal: true,
    historySize: HISTORY_LINES,
    history: [...options.history],
    removeHistoryDuplicates: true,
    completer: (line: string) => [
      options.commands.filter((name) => line !== '' && name.startsWith(line)),
      line,
    ],
  })
  const deliver = (line: string | undefined) => {
    const resolve = waiting
    waiting = undefined
    if (resolve !== undefined) resolve(line)
    else if (line !== undefined && typedAhead.length < MAX_TYPED_AHEAD) typedAhead.push(line)
  }
  lines.on('line', deliver)
  lines.on('SIGINT', () => {
    // What was typed on this line goes, as in a shell; the listener says what Ctrl-C means now.
    lines.write(null, { ctrl: true, name: 'e' })
    lines.write(null, { ctrl: true, name: 'u' })
    options.onInterrupt()
    if (waiting !== undefined && !closed) lines.prompt()
  })
  const ended = new Promise<void>((resolve) => {
    lines.on('close', () => {
      closed = true
      deliver(undefined)
      resolve()
    })
  })
  return {
    read: (prompt) =>
      new Promise((resolve) => {
        const ready = typedAhead.shift()
        if (ready !== undefined || closed) {
          resolve(ready)
          return
        }
        waiting = resolve
        lines.setPrompt(prompt)
        lines.prompt(true)
      }),
    mute: (value) => {
      muted = value
    },
    ended,
    close: () => lines.close(),
  }
}

/** An output that can be silenced, with the width readline asks for. */
function gate(output: OutputStream, isMuted: () => boolean): Writable {
  const gated = new Writable({
    write: (chunk: Buffer, _encoding, callback) => {
      if (!isMuted()) output.write(chunk)
      callback()
    },
  })
  Object.defineProperty(gated, 'columns', { get: () => output.columns || 80 })
  output.on('resize', () => gated.emit('resize'))
  return gated
}
