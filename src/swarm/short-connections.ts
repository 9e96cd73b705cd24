import { type Connection, KEEP_ALIVE } from '@libp2p/interface'
import type { Libp2p } from 'libp2p'

/** A connection that ends sooner was refused: a peer that must show a pass has 5 s. */
const SHORT_MS = 10_000

/**
 * Takes peers that cut this one off soon after it came from those that libp2p keeps connected (the nearest in the DHT, the
 * relays). For the side that dials, a connection to a gate that refuses it succeeds and then ends, and libp2p dials again
 * at once, a hundred times a second. Whoever needs the peer still dials it. Returns how to stop.
 */
export function watchShortConnections(
  node: Pick<Libp2p, 'addEventListener' | 'removeEventListener' | 'peerStore'>,
): () => void {
  const onClose = ({ detail }: CustomEvent<Connection>): void => {
    const { direction, remotePeer, timeline } = detail
    if (direction !== 'outbound' || (timeline.close ?? Date.now()) - timeline.open >= SHORT_MS) return
    void release(remotePeer).catch(() => undefined)
  }
  const release = async (peer: Connection['remotePeer']): Promise<void> => {
    const { tags } = await node.peerStore.get(peer)
    const kept = [...tags.keys()].filter((name) => name.startsWith(KEEP_ALIVE))
    if (kept.length > 0) {
      await node.peerStore.merge(peer, { tags: Object.fromEntries(kept.map((name) => [name, undefined])) })
    }
  }
  node.addEventListener('connection:close', onClose)
  return () => node.removeEventListener('connection:close', onClose)
}
