/**
 * A server that computes nothing, in a process of its own, so that only the way is measured:
 * `fork`ed with `START END HIDDEN [PORT ANNOUNCED]`, answers over IPC with its addresses and the port of a plain TCP echo.
 */
import { createServer } from 'node:net'
import type { EngineSpan } from '../../../src/engine/engine.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { createSpanHost } from '../../../src/server/span-host.ts'
import { createPeer } from '../../../src/swarm/peer.ts'
import { serveSpan } from '../../../src/swarm/serve-span.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { VERSION } from '../../version.ts'
import { HOP_MODEL, type HopServerReady } from './hop-protocol.ts'

const KV_TOKENS = 1 << 20

/** A span whose output is its input. */
function createEchoSpan(start: number, end: number): EngineSpan {
  let leased = 0
  const positions = new WeakMap<object, { count: number }>()
  return {
    start,
    end,
    weightBytes: 0,
    kvBytes: 0,
    kvTokens: KV_TOKENS,
    get kvTokensFree() {
      return KV_TOKENS - leased
    },
    lease(maxTokens) {
      if (leased + maxTokens > KV_TOKENS) throw new ChoraleError('capacity', 'no room')
      leased += maxTokens
      const state = { count: 0 }
      const lease = {
        maxTokens,
        get position() {
          return state.count
        },
        rollback: (position: number) => {
          state.count = position
        },
        release: () => {
          leased -= maxTokens
        },
      }
      positions.set(lease, state)
      return lease
    },
    async step(entries) {
      return entries.map(({ lease, hidden }) => {
        positions.get(lease)!.count += hidden.shape[0]
        return hidden
      })
    },
    close: async () => undefined,
  }
}

const [start, end, hiddenSize, port, announced] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number?,
  number?,
]
const peer = await createPeer({
  transports: headlessTransports(),
  listen: [`/ip4/127.0.0.1/tcp/${port ?? 0}`],
  ...(announced !== undefined && { announce: [`/ip4/127.0.0.1/tcp/${announced}`] }),
  mode: 'server',
  privateAddresses: true,
  software: `chorale/${VERSION}`,
})
const host = createSpanHost({
  span: createEchoSpan(start, end),
  modelId: HOP_MODEL,
  hiddenSize,
  engine: 'echo',
  limits: { maxSessions: 64, maxSessionsPerPeer: 64, maxLeaseTokens: KV_TOKENS },
})
await serveSpan(peer, host)
const echo = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  socket.pipe(socket)
})
echo.listen(0, '127.0.0.1', () => {
  const address = echo.address()
  const echoPort = typeof address === 'object' && address !== null ? address.port : 0
  process.send?.({ peerId: peer.id, addrs: peer.addrs(), echoPort } satisfies HopServerReady)
})
// Ends with the command, however that ends.
process.on('disconnect', () => process.exit(0))
