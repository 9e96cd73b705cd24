import type { Multiaddr } from '@multiformats/multiaddr'
import type { Libp2p } from 'libp2p'
import { ChoraleError, errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import { watchShortConnections } from './short-connections.ts'

const BOOTSTRAP_RETRY_MS = 500
const BOOTSTRAP_CHECK_MS = 5_000

/** Keeps a peer in its network. */
export interface BootstrapLoop {
  /** Resolves when one bootstrap peer is connected, at once where none is named. @throws `unreachable` after `timeoutMs`. */
  first(timeoutMs: number): Promise<void>
  stop(): void
}

/** Dials the bootstrap peers until one answers, then watches that one stays connected. */
export function startBootstrapLoop(
  node: Pick<Libp2p, 'addEventListener' | 'dial' | 'getConnections' | 'peerStore' | 'removeEventListener'>,
  bootstrap: readonly Multiaddr[],
  log: Logger,
): BootstrapLoop {
  const stopped = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const unwatch = watchShortConnections(node)
  let lastErrors = new Map<string, string>()

  const dialAll = async (): Promise<number> => {
    const errors = new Map<string, string>()
    const dials = bootstrap.map(async (address) => {
      try {
        await node.dial(address, { signal: AbortSignal.any([stopped.signal, AbortSignal.timeout(5_000)]) })
        return 1
      } catch (error) {
        errors.set(String(address), errorMessage(error))
        return 0
      }
    })
    const reached = await Promise.all(dials)
    lastErrors = errors
    return reached.reduce<number>((sum, one) => sum + one, 0)
  }

  const watchLoop = (): void => {
    timer = setTimeout(async () => {
      if (node.getConnections().length === 0) {
        const reached = await dialAll()
        log.info('rejoining the network', { reached })
      }
      if (!stopped.signal.aborted) watchLoop()
    }, BOOTSTRAP_CHECK_MS)
  }

  return {
    first: async (timeoutMs: number): Promise<void> => {
      if (bootstrap.length === 0) return
      const deadline = Date.now() + timeoutMs
      while ((await dialAll()) === 0) {
        if (Date.now() + BOOTSTRAP_RETRY_MS > deadline) {
          const tried = [...lastErrors].map(([address, reason]) => `${address} (${reason})`).join(', ')
          throw new ChoraleError(
            'unreachable',
            `no bootstrap peer is reachable: ${tried}. Check that it runs, its address and port, and that no firewall is between`,
            { field: 'bootstrap' },
          )
        }
        await new Promise((resolve) => setTimeout(resolve, BOOTSTRAP_RETRY_MS))
      }
      watchLoop()
    },
    stop: (): void => {
      stopped.abort()
      unwatch()
      clearTimeout(timer)
    },
  }
}
