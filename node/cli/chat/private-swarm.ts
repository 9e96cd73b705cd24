import { splitEvenly } from '../../../src/session/trace.ts'
import { startOfflineSwarm, type OfflineSwarm } from '../../offline-swarm.ts'

/** Server processes of an offline swarm. */
const SERVERS = 3

/** A swarm on loopback that serves all blocks of one model, for this process alone. Same errors as `startOfflineSwarm`. */
export async function startPrivateSwarm(options: {
  readonly reference: string
  readonly revision: string | undefined
  readonly blockCount: number
  readonly engine: string
  readonly signal: AbortSignal
  readonly onReady: (ready: number, total: number) => void
}): Promise<OfflineSwarm> {
  return await startOfflineSwarm({
    model: options.reference,
    spans: splitEvenly(options.blockCount, SERVERS),
    engine: options.engine,
    // Several processes share the cores; more threads each would only take turns.
    threads: 1,
    ...(options.revision !== undefined && { serveArgs: ['--revision', options.revision] }),
    signal: options.signal,
    onReady: options.onReady,
  })
}
