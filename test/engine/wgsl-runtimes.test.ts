import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

/** The same script in Node and in Deno: parity, and a process that ends by itself after close(). */

const ROOT = join(import.meta.dirname, '../..')
const SCRIPT = join(ROOT, 'test/runtime/deno-wgsl.ts')
const DENO = join(ROOT, 'node_modules/.bin/deno')
const run = promisify(execFile)

async function runScript(command: string, flags: readonly string[]): Promise<Record<string, unknown>> {
  // A process that hangs after close() is killed here and fails the test.
  const { stdout } = await run(command, [...flags, SCRIPT], {
    timeout: 50_000,
    killSignal: 'SIGKILL',
    cwd: ROOT,
  })
  return JSON.parse(stdout) as Record<string, unknown>
}

const runtimes: [string, string, string[]][] = [
  ['node', process.execPath, []],
  ['deno', DENO, ['run', '--allow-all', '--no-lock']],
]

describe.each(runtimes)('wgsl engine in %s', (name, command, flags) => {
  it.skipIf(!existsSync(command))(
    'computes the reference vector and lets the process end',
    async (context) => {
      const result = await runScript(command, flags)
      expect(result['runtime']).toBe(name)
      if (typeof result['skipped'] === 'string') {
        console.log(`skipped in ${name}: ${result['skipped']}`)
        context.skip(result['skipped'])
      }
      expect(result['hiddenError']).toBeLessThan(1e-5)
      expect(result['greedyEqual']).toBe(true)
    },
  )
})
