import { spawn } from 'node:child_process'
import { ChoraleError } from '../../../src/errors.ts'
import type { OfflineServer } from '../../offline-swarm.ts'
import type { OutgoingSockets } from './outgoing-sockets.ts'

export type FaultKind = 'kill' | 'stall' | 'cut'

/** What is done to the servers of a swarm, and undone. */
export interface Faults {
  /** Hurts `server` now. @returns what to do when the answer is over; it resolves when the server is well again. */
  inject(kind: FaultKind, server: OfflineServer): () => Promise<void>
  /** Resolves when `server` is well. */
  well(server: OfflineServer): Promise<void>
}

/** @param sockets this process's connections, for cuts. */
export function createFaults(sockets: OutgoingSockets): Faults {
  const healing = new Map<OfflineServer, Promise<void>>()

  function heal(server: OfflineServer, work: Promise<void>): Promise<void> {
    const done = work.finally(() => {
      if (healing.get(server) === done) healing.delete(server)
    })
    // Who needs the server sees the error; nobody else has to.
    done.catch(() => undefined)
    healing.set(server, done)
    return done
  }

  return {
    inject(kind, server) {
      if (kind === 'kill') {
        server.kill('SIGKILL')
        return () => heal(server, server.restart())
      }
      if (kind === 'stall') {
        const goOn = continueLater(server.pid)
        server.kill('SIGSTOP')
        return async () => goOn()
      }
      if (sockets.cut(portOf(server)) === 0) {
        throw new ChoraleError('internal', `no connection to ${server.peerId} to cut`)
      }
      return async () => undefined
    },
    well: async (server) => await healing.get(server),
  }
}

/**
 * Continues a stopped process when the returned function is called, or when this process ends before, however it
 * ends: a stopped process sees neither signals nor the end of its parent.
 */
function continueLater(pid: number): () => void {
  const script = `process.stdin.resume().on('close', () => { try { process.kill(${pid}, 'SIGCONT') } catch {} })`
  const guard = spawn(process.execPath, ['-e', script], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  guard.stdin.on('error', () => undefined)
  return () => guard.stdin.end()
}

/** @throws `internal` when the server told no TCP address. */
function portOf(server: OfflineServer): number {
  const port = /\/tcp\/(\d+)/.exec(server.addrs[0] ?? '')?.[1]
  if (port === undefined) throw new ChoraleError('internal', `server ${server.peerId} told no TCP address`)
  return Number(port)
}
