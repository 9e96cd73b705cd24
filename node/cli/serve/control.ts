import { createInterface } from 'node:readline'
import { ChoraleError } from '../../../src/errors.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import { parseBlocks } from './values.ts'

/** A command a program gives a server it started: one JSON object a line on standard input. */
export type ControlCommand = {
  readonly kind: 'move'
  readonly span: Span
  readonly overlap: boolean
  /** Of which model, where the server holds several. */
  readonly model?: string
}

/** Longest line that is read: a command is short, and an endless line would fill memory. */
const MAX_LINE = 4_096

/** Calls back for every command on standard input, and for what is none. @returns stops reading: an open input keeps a process. */
export function readControl(
  onCommand: (command: ControlCommand) => void,
  onError: (error: ChoraleError) => void,
): () => void {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    if (line.trim() === '') return
    try {
      onCommand(parseControl(line))
    } catch (error) {
      onError(error instanceof ChoraleError ? error : new ChoraleError('bad_request', String(error)))
    }
  })
  return () => lines.close()
}

/** `{"move": "4:8", "overlap": true, "model": "tale"}`. @throws `bad_request`. */
export function parseControl(line: string): ControlCommand {
  if (line.length > MAX_LINE) {
    throw new ChoraleError('bad_request', `a command of ${line.length} characters (at most ${MAX_LINE})`)
  }
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new ChoraleError('bad_request', `a command is one JSON object a line, not ${line.slice(0, 80)}`)
  }
  const { move, overlap = true, model } = (value ?? {}) as Record<string, unknown>
  const span = typeof move === 'string' ? parseBlocks(move) : undefined
  const named = model === undefined || (typeof model === 'string' && model !== '')
  if (span === undefined || typeof overlap !== 'boolean' || !named) {
    throw new ChoraleError(
      'bad_request',
      'known commands: {"move": "START:END", "overlap": true, "model": "NAME"}',
      {
        field: 'move',
      },
    )
  }
  return { kind: 'move', span, overlap, ...(typeof model === 'string' && { model }) }
}
