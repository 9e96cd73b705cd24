/** What the directory costs, by a model of `swarm/dht-directory.ts` with real record sizes, periods and copies. */
export interface TrafficModel {
  readonly peers: number
  readonly recordBytes: number
  /** Peers that a server gives its record to. */
  readonly copies: number
  readonly announceSeconds: number
  /** Times a second that one server's record says something new (joins, moves, leaves), as the simulation counts. */
  readonly newsPerPeerPerSecond: number
}

/** Bytes per second of one directory peer, sent and received. */
export interface DirectoryTraffic {
  /** Own record out, others' in: the same for any number of peers. */
  readonly publish: number
  /** News told to everybody: each peer takes each once and hands it on about as often as it takes part in meshes. */
  readonly gossip: number
  /** A server that reads every record of its model before each placement decision. */
  readonly listing: number
}

/** Copies of a message that a peer of a gossip mesh of degree 6 to 8 sends and receives: one new, and repeats. */
const GOSSIP_COPIES = 8
/** A server looks this often whether it should move. */
const LISTING_SECONDS = 120

/** Adds the three parts up for a swarm that serves one model. */
export function directoryTraffic(model: TrafficModel): DirectoryTraffic {
  const { peers, recordBytes, copies, announceSeconds, newsPerPeerPerSecond } = model
  return {
    publish: (2 * Math.min(copies, peers - 1) * recordBytes) / announceSeconds,
    gossip: peers * newsPerPeerPerSecond * recordBytes * GOSSIP_COPIES,
    listing: (peers * recordBytes) / LISTING_SECONDS,
  }
}
