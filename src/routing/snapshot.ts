/** What a client knows about the servers of one model at one moment. Pure data: routing decides on it alone. */

/** What is known of a model in the network, whether or not servers cover it now. */
export interface ModelRecord {
  readonly modelId: string
  readonly name: string
  readonly blockCount: number
  readonly hiddenSize: number
  /** Commit that its files came from, where a hub said so. Other weights have another `modelId` in any case. */
  readonly revision?: string
  /** How its files store the blocks, e.g. `BF16` or `Q4_0`; undefined where the server's version does not say. */
  readonly precision?: string
}

export type ServerState = 'joining' | 'online' | 'draining' | 'offline'

/** What a server says about itself in the directory, after its signature was checked. */
export interface ServerRecord {
  readonly peerId: string
  /** Multiaddrs, best first. */
  readonly addrs: readonly string[]
  readonly modelId: string
  readonly start: number
  /** Exclusive. */
  readonly end: number
  readonly state: ServerState
  /** Measured decode speed of this span alone, tokens per second. */
  readonly throughput: number
  /** Measured speed of reading a prompt, tokens per second; undefined where the server's version does not say. */
  readonly prefillThroughput?: number
  /** Steps received and not answered, of all sessions. */
  readonly queued?: number
  /** Bytes per second that the server can send, as far as it knows. */
  readonly bandwidth?: number
  /** Blocks it is about to serve instead of the present ones. */
  readonly intent?: { readonly start: number; readonly end: number }
  /** Most blocks that its memory holds; undefined where the server's version does not say. */
  readonly maxBlocks?: number
  /** It won't move to other blocks before, in ms since the epoch; undefined where it does not say or never moves by itself. */
  readonly staysUntil?: number
  /** Whether it gives weights of the model to others, by the blob protocol. */
  readonly blobs?: boolean
  /** Hex SHA-256 of the manifest of weights that it goes by; undefined where it knows none. */
  readonly manifest?: string
  /** KV room not leased, in tokens. */
  readonly freeKvTokens: number
  readonly sessions: number
  readonly engine: string
  /** Weight precision as computed, e.g. `f32`. */
  readonly precision: string
  readonly version: string
  /** Milliseconds since the epoch; a newer record of the same peer replaces an older one. */
  readonly issuedAt: number
  readonly expiresAt: number
}

/** What the client itself measured about a server. */
export interface PeerMeasure {
  /** Round trip in milliseconds; undefined when never measured. */
  readonly rttMs: number | undefined
  /** How the connection goes; undefined where there is none. */
  readonly path?: 'tcp' | 'websocket' | 'webrtc' | 'relay'
}

export interface Snapshot {
  readonly blockCount: number
  readonly servers: readonly ServerRecord[]
  readonly measures: ReadonlyMap<string, PeerMeasure>
  /** Peers not to use, each with when its ban ends (ms since the epoch). */
  readonly bannedUntil: ReadonlyMap<string, number>
  readonly now: number
}
