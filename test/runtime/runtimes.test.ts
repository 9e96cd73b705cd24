import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

/** The same sources in Node and in Deno: each asks a chain of a server of its own kind and one of the other kind. */

const ROOT = join(import.meta.dirname, '../..')
const DENO = join(ROOT, 'node_modules/.bin/deno')
const TIMEOUT_MS = 60_000
const run = promisify(execFile)

const runtimes: [string, string, string[]][] = [
  ['node', process.execPath, []],
  ['deno', DENO, ['run', '--allow-all', '--no-lock']],
]

if (!existsSync(DENO)) console.log('skipped: deno is missing (npm install brings it)')

describe.skipIf(!existsSync(DENO)).each(runtimes)('asked by %s', (name, command, flags) => {
  it(
    'a chain of a Deno server and a Node server gives the reference engine’s answer, and the process ends',
    async () => {
      const script = join(ROOT, 'test/runtime/mixed-chain.ts')
      const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', cwd: ROOT } as const
      const { stdout } = await run(command, [...flags, script], options)
      expect(JSON.parse(stdout)).toEqual({
        runtime: name,
        servers: ['wasm', 'wasm'],
        throughBoth: true,
        tokens: 24,
        equal: true,
      })
    },
    TIMEOUT_MS + 5_000,
  )
})

describe.skipIf(!existsSync(DENO))('chorale start in deno', () => {
  it(
    'runs swarm, dev chain and gateway, answers, and leaves nothing behind',
    async () => {
      const args = ['run', '--allow-all', '--no-lock', 'node/main.ts', 'start']
      const flags = ['--once', 'Tell me a story about a fox.', '--max-tokens', '8', '--json', '--port', '0']
      const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', cwd: ROOT } as const
      const work = run(DENO, [...args, ...flags], options)
      const { stdout } = await work
      const { text } = JSON.parse(stdout.trim().split('\n').at(-1)) as { text: string }
      expect(text.length).toBeGreaterThan(0)
    },
    TIMEOUT_MS + 5_000,
  )
})
