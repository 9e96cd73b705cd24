/**
 * A server that computes nothing, in a process of its own, so that only the way is measured:
 * `fork`ed with `START END HIDDEN [PORT ANNOUNCED]`, answers over IPC with its addresses and the port of a plain TCP echo.
 */
import { createServer } from 'node:net'
import { createSpanHost } from '../../../src/server/span-host.ts'
import { createPeer } from '../../../src/swarm/peer.ts'
import { serveSpan } from '../../../src/swarm/serve-span.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { nativeEd25519 } from '../../native-ed25519.ts'
import { nativeSha256 } from '../../native-sha256.ts'
import { VERSION } from '../../version.ts'
import { createEchoSpan, ECHO_KV_TOKENS } from './echo-span.ts'
import { HOP_MODEL, type HopServerReady } from './hop-protocol.ts'

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
  sha256: nativeSha256,
  ed25519: nativeEd25519,
})
const host = createSpanHost({
  span: createEchoSpan(start, end),
  modelId: HOP_MODEL,
  hiddenSize,
  engine: 'echo',
  limits: { maxSessions: 64, maxSessionsPerPeer: 64, maxLeaseTokens: ECHO_KV_TOKENS },
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
