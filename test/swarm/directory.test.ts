import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { directoryContract } from '../contract/directory.ts'
import { loopbackPeer, TCP } from './loopback.ts'

directoryContract('in memory', async (now) => {
  const state = memoryDirectoryState()
  return {
    peers: [
      { peerId: 'a', directory: memoryDirectory(state, 'a', now) },
      { peerId: 'b', directory: memoryDirectory(state, 'b', now) },
    ],
    advance: () => undefined,
    close: async () => undefined,
  }
})

directoryContract('over the DHT', async (now) => {
  const bootstrap = await loopbackPeer({ listen: [TCP] })
  const bootstrapDirectory = await createDhtDirectory(bootstrap, { serve: true, now })
  const join = { listen: [TCP], bootstrap: bootstrap.addrs() }
  const a = await loopbackPeer(join)
  const b = await loopbackPeer(join)
  const directories = [
    await createDhtDirectory(a, { serve: true, now }),
    await createDhtDirectory(b, { serve: true, now }),
  ] as const
  return {
    peers: [
      { peerId: a.id, directory: directories[0] },
      { peerId: b.id, directory: directories[1] },
    ],
    advance: () => undefined,
    close: async () => {
      await Promise.all([...directories, bootstrapDirectory].map((directory) => directory.close()))
      await Promise.all([a, b, bootstrap].map((peer) => peer.close()))
    },
  }
})
