/** What the processes of `chorale bench hops` tell each other. */
export interface HopServerReady {
  readonly peerId: string
  readonly addrs: readonly string[]
  /** Port of a plain TCP echo on loopback in the same process. */
  readonly echoPort: number
}

/** The model whose spans return what they get. */
export const HOP_MODEL = 'hops@1'
