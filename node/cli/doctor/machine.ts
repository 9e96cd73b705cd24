import { mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { errorMessage } from '../../../src/errors.ts'
import { cacheFolder } from '../../folders.ts'

/** One line of the doctor's report. `fix` is null when there is nothing to mend. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
  readonly fix: string | null
}

/** libp2p needs `Promise.withResolvers`, type stripping needs 22.18. */
const MIN_NODE = [22, 18] as const

/** Below this the bundled model's client and one server don't fit. */
const MIN_FREE_MEMORY = 512 * 2 ** 20

/** Room for a small model's files. */
const MIN_FREE_DISK = 2 ** 30

export function checkRuntime(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const ok = major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1])
  const deno = (process.versions as Record<string, string | undefined>)['deno']
  return {
    name: 'runtime',
    ok,
    detail: deno === undefined ? `Node.js ${process.versions.node}` : `Deno ${deno}`,
    fix: ok
      ? null
      : `Node.js ≥ ${MIN_NODE.join('.')} is needed; \`npm ci\` installs one that \`npm start\` and \`npm run chorale\` use`,
  }
}

export function checkMemory(): Check {
  const free = freemem()
  const ok = free >= MIN_FREE_MEMORY
  return {
    name: 'memory',
    ok,
    detail: `${gibibytes(free)} GiB free of ${gibibytes(totalmem())} GiB`,
    fix: ok ? null : 'close other programs, or serve fewer blocks with --blocks or --max-memory',
  }
}

/** Opens a TCP port on loopback and closes it: what every local swarm needs. */
export async function checkNetwork(): Promise<Check> {
  const result = await new Promise<Error | number>((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen({ host: '127.0.0.1', port: 0 }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
  const ok = typeof result === 'number'
  return {
    name: 'network',
    ok,
    detail: ok ? 'TCP ports on loopback can be opened' : `no TCP port on loopback: ${errorMessage(result)}`,
    fix: ok ? null : 'allow this program to listen on 127.0.0.1 (firewall, sandbox or container settings)',
  }
}

export async function checkDisk(): Promise<Check> {
  const folder = cacheFolder()
  try {
    await mkdir(folder, { recursive: true })
    const probe = join(folder, `.doctor-${process.pid}`)
    await writeFile(probe, 'x')
    await rm(probe)
    const { bavail, bsize } = await statfs(folder)
    const free = bavail * bsize
    const ok = free >= MIN_FREE_DISK
    return {
      name: 'disk',
      ok,
      detail: `${folder} is writable, ${gibibytes(free)} GiB free`,
      fix: ok
        ? null
        : 'free some disk space, or set XDG_CACHE_HOME to a larger disk; `chorale models rm` removes cached models',
    }
  } catch (error) {
    return {
      name: 'disk',
      ok: false,
      detail: `${folder} can't be written: ${errorMessage(error)}`,
      fix: 'set XDG_CACHE_HOME to a folder you may write',
    }
  }
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1)
}
