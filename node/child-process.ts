import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ChoraleError } from '../src/errors.ts'
import { PACKAGE_ROOT } from './platform.ts'

/** A `chorale` verb that runs in a process of its own and reports as JSON lines on stdout. */
export interface ChildVerb {
  readonly pid: number
  /** Its `{"event":"ready", …}` line. */
  readonly ready: Readonly<Record<string, unknown>>
  /** Resolves when the process has ended, with how: `exit 0`, `SIGKILL`. */
  readonly exited: Promise<string>
  readonly alive: boolean
  kill(signal: NodeJS.Signals): void
  /** Gives it a command: one JSON object on its standard input. */
  command(command: object): void
  /** Asks it to end, insists after `graceMs`, waits until it is gone. */
  stop(graceMs?: number): Promise<void>
}

export interface ChildVerbOptions {
  readonly args: readonly string[]
  /** Lines of its stderr, and JSON lines other than `ready`. */
  readonly onLine?: (line: string) => void
  readonly readyMs?: number
  readonly signal?: AbortSignal
  /** What runs it: an executable and its arguments (default: the runtime of this process). */
  readonly runtime?: readonly [string, ...string[]]
}

/** Loading a model and measuring it takes seconds on a slow machine. */
const READY_MS = 120_000
const GRACE_MS = 3_000
/** A second signal means "now": farewells on the network may wait for peers that are leaving too. */
const FAREWELL_MS = 500
/** Lines of stderr kept for the error message of a process that does not come up. */
const KEPT_LINES = 8

/**
 * Starts `chorale ARGS` as a child that dies with this process and waits until it says that it is ready.
 * @throws `internal` with its last lines when it ends before, `timeout`, `cancelled`.
 */
export async function startChildVerb(options: ChildVerbOptions): Promise<ChildVerb> {
  const own: readonly [string, ...string[]] = [
    process.execPath,
    ...('Deno' in globalThis ? ['run', '-A'] : []),
  ]
  const [executable, ...flags] = options.runtime ?? own
  const entry = join(PACKAGE_ROOT, 'node', 'offline-child.ts')
  const child = spawn(executable, [...flags, entry, ...options.args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C in the terminal is for the parent, which knows what it means.
    detached: true,
  })
  // Nobody writes to it; its end is the message, and a child that is gone already must not raise EPIPE.
  child.stdin.on('error', () => undefined)
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`))
    child.once('error', (error) => resolve(error.message))
  })
  let alive = true
  void exited.then(() => (alive = false))
  // Deno takes a process for dead that `child.kill` sent any signal, and sends it no other.
  const kill = (signal: NodeJS.Signals): void => {
    if (alive && child.pid !== undefined) sendSignal(child.pid, signal)
  }
  const lines: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    lines.push(line)
    if (lines.length > KEPT_LINES) lines.shift()
    options.onLine?.(line)
  })
  try {
    const ready = await waitForReady(child, exited, lines, options)
    return wrapChild(child, ready, { exited, kill, alive: () => alive })
  } catch (error) {
    kill('SIGKILL')
    await exited
    throw error
  }
}

function waitForReady(
  child: ChildProcess,
  exited: Promise<string>,
  lines: readonly string[],
  { args, onLine, readyMs = READY_MS, signal }: ChildVerbOptions,
): Promise<Record<string, unknown>> {
  const what = `chorale ${args.join(' ')}`
  let timer: ReturnType<typeof setTimeout>
  let onAbort: () => void
  const waiting = new Promise<Record<string, unknown>>((resolve, reject) => {
    timer = setTimeout(() => {
      reject(new ChoraleError('timeout', `${what} was not ready after ${readyMs} ms: ${lines.join('; ')}`))
    }, readyMs)
    onAbort = () => reject(new ChoraleError('cancelled', `${what} was stopped`))
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted) onAbort()
    const onExit = (how: string) =>
      reject(new ChoraleError('internal', `${what} ended (${how}) before it was ready: ${lines.join('; ')}`))
    void exited.then(onExit)
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const message = parseEvent(line)
      if (message?.['event'] === 'ready') resolve(message)
      else onLine?.(line)
    })
  })
  return waiting.finally(() => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  })
}

function parseEvent(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

interface Life {
  readonly exited: Promise<string>
  readonly kill: (signal: NodeJS.Signals) => void
  readonly alive: () => boolean
}

function wrapChild(
  child: ChildProcess,
  ready: Readonly<Record<string, unknown>>,
  { exited, kill, alive }: Life,
): ChildVerb {
  return {
    pid: child.pid ?? -1,
    ready,
    exited,
    get alive() {
      return alive()
    },
    kill,
    command: (command) => void child.stdin?.write(`${JSON.stringify(command)}\n`),
    async stop(graceMs = GRACE_MS) {
      if (!alive()) return
      kill('SIGTERM')
      // A process that was stopped for a test would never see the first signal.
      kill('SIGCONT')
      const hurry = setTimeout(() => kill('SIGTERM'), FAREWELL_MS)
      const insist = setTimeout(() => kill('SIGKILL'), graceMs)
      await exited
      clearTimeout(hurry)
      clearTimeout(insist)
    },
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended a moment ago.
  }
}
