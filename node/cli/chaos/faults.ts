import { spawn } from 'node:child_process'
import { ChoraleError } from '../../../src/errors.ts'
import type { OfflineServer } from '../../offline-swarm.ts'
import type { FaultyProxy } from './faulty-proxy.ts'
import type { OutgoingSockets } from './outgoing-sockets.ts'

export type FaultKind =
  | 'kill'
  | 'stall'
  | 'cut'
  | 'half-open'
  | 'slow'
  | 'corrupt'
  | 'move'
  | 'relay-restart'
  | 'tab-close'

/** A server that can be hurt. */
export interface Victim {
  readonly peerId: string
  /** What can be done to it. */
  readonly kinds: ReadonlySet<FaultKind>
  /** Hurts it now. @returns what to do when the answer is over; it resolves when the server is well again. */
  hurt(kind: FaultKind): () => Promise<void>
  /** Resolves when it is well. */
  well(): Promise<void>
}

/** Remembers how a victim gets well, so that nobody is hurt twice at once. */
export function healing(): { heal(work: Promise<void>): Promise<void>; well(): Promise<void> } {
  let now: Promise<void> = Promise.resolve()
  return {
    heal(work) {
      // Who needs the server sees the error; nobody else has to.
      work.catch(() => undefined)
      now = work
      return work
    },
    well: async () => await now,
  }
}

export interface ProcessVictimOptions {
  /** This process's connections, for cuts. */
  readonly sockets: OutgoingSockets
  /** The link that leads to the server. */
  readonly proxy: FaultyProxy
  /** Where it is told to go, and back, when it should move; undefined = it stays. */
  readonly elsewhere?: { readonly start: number; readonly end: number }
  /** Waits till the directory shows the server at its own span. */
  readonly atHome: (peerId: string) => Promise<void>
}

/** A server process and the link to it. */
export function processVictim(server: OfflineServer, options: ProcessVictimOptions): Victim {
  const { sockets, proxy, elsewhere, atHome } = options
  const { heal, well } = healing()
  let overlap = false
  const links: readonly FaultKind[] = ['half-open', 'slow', 'corrupt']
  const kinds: readonly FaultKind[] = [
    'kill',
    'stall',
    'cut',
    ...links,
    ...(elsewhere ? (['move'] as const) : []),
  ]

  function hurt(kind: FaultKind): () => Promise<void> {
    switch (kind) {
      case 'kill':
        server.kill('SIGKILL')
        return () => heal(server.restart())
      case 'stall': {
        const goOn = continueLater(server.pid)
        server.kill('SIGSTOP')
        return async () => goOn()
      }
      case 'cut':
        if (sockets.cut(proxy.port) === 0) {
          throw new ChoraleError('internal', `no connection to ${server.peerId} to cut`)
        }
        return async () => undefined
      case 'half-open':
      case 'slow':
      case 'corrupt': {
        const mend = proxy.hurt(kind)
        return async () => mend()
      }
      case 'move': {
        // Once loading the new span before the old one goes, once after.
        overlap = !overlap
        const go = (span: { start: number; end: number }) =>
          server.command({ move: `${span.start}:${span.end}`, overlap })
        go(elsewhere!)
        return () => {
          go(server)
          return heal(atHome(server.peerId))
        }
      }
      default:
        throw new ChoraleError('internal', `${kind} is nothing that happens to a process`)
    }
  }

  return {
    get peerId() {
      return server.peerId
    },
    kinds: new Set(kinds),
    hurt,
    well,
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
