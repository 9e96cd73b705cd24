import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errorMessage } from '../src/errors.ts'
import { runtimeFolder } from './folders.ts'

/** The swarm that `npm start` keeps up on this machine, for verbs that were not told where to look. */
export interface LocalSwarm {
  /** Process that holds it. */
  readonly pid: number
  readonly bootstrap: readonly string[]
  /** URL of its gateway, when it has one. */
  readonly gateway?: string
  /** MODEL it serves. */
  readonly model?: string
  /** URL of its ledger, and its subnet there. */
  readonly ledger?: string
  readonly genesisHash?: string
  readonly subnetId?: number
}

/** Where the file lies: one swarm a user. */
export function localSwarmPath(): string {
  return join(runtimeFolder(), 'swarm.json')
}

/** Says that this process holds a swarm. Only this user can read the file. */
export async function writeLocalSwarm(
  swarm: Omit<LocalSwarm, 'pid'>,
  path = localSwarmPath(),
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${process.pid}`
  await writeFile(temporary, `${JSON.stringify({ pid: process.pid, ...swarm })}\n`, { mode: 0o600 })
  await rename(temporary, path)
}

/** The swarm on this machine, or undefined when there is none; a file of a process that ended is removed. */
export async function readLocalSwarm(path = localSwarmPath()): Promise<LocalSwarm | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch {
    return undefined
  }
  const swarm = parseLocalSwarm(text)
  if (swarm !== undefined && isAlive(swarm.pid)) return swarm
  await rm(path, { force: true })
  return undefined
}

/** Takes the file back, unless another process wrote it since. */
export async function removeLocalSwarm(path = localSwarmPath()): Promise<void> {
  try {
    if (parseLocalSwarm(await readFile(path, 'utf8'))?.pid === process.pid) await rm(path, { force: true })
  } catch (error) {
    if (!errorMessage(error).includes('ENOENT')) throw error
  }
}

function parseLocalSwarm(text: string): LocalSwarm | undefined {
  try {
    const value = JSON.parse(text) as Partial<Record<keyof LocalSwarm, unknown>> | null
    if (typeof value !== 'object' || value === null) return undefined
    const { pid, bootstrap, gateway, model, ledger, genesisHash, subnetId } = value
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 1 || !Array.isArray(bootstrap)) {
      return undefined
    }
    return {
      pid,
      bootstrap: bootstrap.map(String),
      ...(typeof gateway === 'string' && { gateway }),
      ...(typeof model === 'string' && { model }),
      ...(typeof ledger === 'string' && { ledger }),
      ...(typeof genesisHash === 'string' && { genesisHash }),
      ...(typeof subnetId === 'number' && Number.isSafeInteger(subnetId) && { subnetId }),
    }
  } catch {
    return undefined
  }
}

/** Signal 0 asks without sending. A process of another user answers EPERM: it lives. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
