import type { Directory } from '../../src/session/directory.ts'
import { openBlobStore } from '../../src/store/blob-store.ts'
import { askBlobOver, blobSources } from '../../src/swarm/ask-blob.ts'
import { fetchBlobs } from '../../src/swarm/blob-fetch.ts'
import { type BlobService, serveBlobs } from '../../src/swarm/blob-serve.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { uploadLimits } from '../../src/swarm/upload-limit.ts'
import { opfsCache } from '../engine/blob-cache.ts'
import type { PieceFetcher } from '../engine/piece-link.ts'

/** Whoever shares has an entry in the directory by then. */
const ALONE_MS = 10_000

/** Fetches weights of a model from servers that share them; who sends wrong bytes is not asked again. */
export function createTabPieces(
  peer: Peer,
  directory: Pick<Directory, 'servers'>,
  modelId: string,
): PieceFetcher {
  const ask = askBlobOver(peer)
  const liars = new Set<string>()
  return async (needs, sink, patienceMs) => {
    const { from } = await fetchBlobs(needs, {
      ask,
      sources: async () => blobSources(peer, await directory.servers(modelId)),
      keepList: (root, list) => sink.list(root, list),
      keepPiece: (root, index, bytes) => sink.piece(root, index, bytes),
      liars,
      onLiar: (peerId, why) =>
        peer.log.warn('a peer sent wrong weights and is asked no more', { peerId, why }),
      patienceMs,
      aloneMs: Math.min(patienceMs, ALONE_MS),
    })
    return from.size
  }
}

/** Gives others what is in this browser's cache. */
export async function shareTabCache(peer: Peer, bytesPerSecond: number): Promise<BlobService> {
  return await serveBlobs(peer, openBlobStore(opfsCache()), uploadLimits(bytesPerSecond))
}
