import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '../..')

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A `chorale` process under way; tests end it by its own handle. */
export interface Running {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  readonly ended: Promise<Ran>
}

/** Starts `chorale ARGS` from source. */
export function startChorale(args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [join(ROOT, 'node/main.ts'), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const ended = new Promise<Ran>((resolve) => {
    child.on('close', (code) => resolve({ code, out, err }))
  })
  return { child, out: () => out, err: () => err, ended }
}

/** Runs `chorale ARGS` to its end. */
export async function runChorale(args: readonly string[], input?: string): Promise<Ran> {
  const running = startChorale(args)
  running.child.stdin?.end(input ?? '')
  return running.ended
}
