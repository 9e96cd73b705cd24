/** How long a client waits for a server. A stalled server costs at most `stepMs`, so short values mean quick failover. */
export interface RemoteTimeouts {
  /** Dial, handshakes and the first answer. */
  readonly dialMs: number
  /** HELLO and OPEN, each. */
  readonly openMs: number
  /** One step, on top of `stepPerTokenMs` for each of its tokens. */
  readonly stepMs: number
  readonly stepPerTokenMs: number
  /** An idle stream sends a PING this often. */
  readonly heartbeatMs: number
  /** A stream is given up after this long without a byte. Background tabs run timers once a minute. */
  readonly silenceMs: number
}

export const DEFAULT_TIMEOUTS: RemoteTimeouts = {
  dialMs: 6_000,
  openMs: 6_000,
  stepMs: 15_000,
  stepPerTokenMs: 100,
  heartbeatMs: 15_000,
  silenceMs: 75_000,
}
