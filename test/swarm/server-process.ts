/** A server in a process of its own, for tests that kill or stop it: `node server-process.ts`, talks over IPC. */

import { fakeSpan } from './fake-span.ts'
import { loopbackPeer, serveFake, targetOf, TCP } from './loopback.ts'

const peer = await loopbackPeer({ listen: [TCP] })
const span = fakeSpan()
await serveFake(peer, span)
process.send?.(targetOf(peer, span))
// Ends with the test, however that ends.
process.on('disconnect', () => process.exit(0))
