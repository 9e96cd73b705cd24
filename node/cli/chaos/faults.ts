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
        server.kill('SIGSTOP')
        return async () => server.kill('SIGCONT')
      }
      if (sockets.cut(portOf(server)) === 0) {
        throw new ChoraleError('internal', `no connection to ${server.peerId} to cut`)
      }
      return async () => undefined
    },
    well: async (server) => await healing.get(server),
  }
}

/** @throws `internal` when the server told no TCP address. */
function portOf(server: OfflineServer): number {
  const port = /\/tcp\/(\d+)/.exec(server.addrs[0] ?? '')?.[1]
  if (port === undefined) throw new ChoraleError('internal', `server ${server.peerId} told no TCP address`)
  return Number(port)
}
