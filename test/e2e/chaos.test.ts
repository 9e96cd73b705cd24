import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { CHROMIUM } from '../web/chromium.ts'

const MAIN = join(import.meta.dirname, '../../node/main.ts')

/** Server processes of the command under test, by their parent. */
let started: ChildProcess[] = []
afterEach(() => {
  for (const child of started) child.kill('SIGKILL')
  started = []
})

function chaos(...args: string[]) {
  const child = spawn(process.execPath, [MAIN, 'chaos', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  started.push(child)
  const stdout: string[] = []
  const stderr: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => stdout.push(line))
  createInterface({ input: child.stderr }).on('line', (line) => stderr.push(line))
  const exited = new Promise<number | string | null>((resolve) => {
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  return { child, stdout, stderr, exited }
}

/** State letter and parent of a process, from /proc; undefined when it is gone. */
function processStat(pid: number): { state: string; parent: number } | undefined {
  try {
    // pid (name) state parent …; the name may hold spaces.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state = '', parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return undefined
  }
}

function childrenOf(pid: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((child) => processStat(child)?.parent === pid)
}

/** A zombie has ended; who collects it is not ours to say. */
function isAlive(pid: number): boolean {
  return !['Z', 'X', undefined].includes(processStat(pid)?.state)
}

async function until(condition: () => boolean, what: () => string, ms: number): Promise<void> {
  const deadline = Date.now() + ms
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what()}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe('chorale chaos', () => {
  it(
    'what happens to processes and links during answers changes no answer',
    { timeout: 120_000 },
    async () => {
      const run = chaos('--kills', '7', '--rebalance', '--tokens', '24', '--json')
      expect(await run.exited, run.stderr.join('\n')).toBe(0)
      expect(JSON.parse(run.stdout.join('\n'))).toMatchObject({
        answers: 7,
        faults: { kill: 1, stall: 1, cut: 1, 'half-open': 1, slow: 1, corrupt: 1, move: 1 },
        equal: 7,
        failed: 0,
      })
    },
  )

  it.skipIf(CHROMIUM === undefined)(
    'nor does a tab that is closed, or the relay of tabs that is restarted',
    { timeout: 180_000 },
    async () => {
      const run = chaos('--kills', '8', '--browser', '--tokens', '24', '--json')
      expect(await run.exited, run.stderr.join('\n')).toBe(0)
      expect(JSON.parse(run.stdout.join('\n'))).toMatchObject({
        faults: { 'tab-close': 1, 'relay-restart': 1 },
        equal: 8,
        failed: 0,
      })
    },
  )

  it.skipIf(!existsSync('/proc/self/stat'))(
    'leaves no process behind when it is killed itself (skipped without /proc)',
    { timeout: 120_000 },
    async () => {
      const run = chaos('--kills', '50')
      await until(
        () => run.stderr.some((line) => line.includes('servers are up')),
        () => run.stderr.join('\n'),
        90_000,
      )
      const children = childrenOf(run.child.pid!)
      expect(children.length).toBeGreaterThanOrEqual(6)
      run.child.kill('SIGKILL')
      expect(await run.exited).toBe('SIGKILL')
      await until(
        () => !children.some(isAlive),
        () => `left: ${children.filter(isAlive).join()}`,
        20_000,
      )
    },
  )

  it('wrong usage exits 2 and says why', async () => {
    const run = chaos('--kills', 'many')
    expect(await run.exited).toBe(2)
    expect(run.stderr.join('\n')).toMatch(/--kills "many"/)
  })
})
