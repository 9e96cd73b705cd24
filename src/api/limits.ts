/** Bounds of what one caller can make the gateway hold or compute. */
export interface ApiLimits {
  /** Bytes of a request's body: stops a caller from filling the memory. */
  readonly bodyBytes: number
  /** Nesting of a JSON body: stops stacks from overflowing in whatever walks it. */
  readonly jsonDepth: number
  /** Messages of one conversation: the chat template runs over all of them. */
  readonly messages: number
  /** Entries of `logit_bias`: each is added at every token. */
  readonly logitBias: number
  /** Answers computed at once: each holds KV room on every server of its chain. */
  readonly running: number
  /** Requests that may wait for a running one to end; more get 429. */
  readonly waiting: number
  /** Milliseconds one request may take in all: frees the KV room of answers nobody can be waiting for any more. */
  readonly requestMs: number
  /** Milliseconds of silence in a stream after which a comment keeps proxies from closing it. */
  readonly keepAliveMs: number
}

/** Limits of a gateway that one team shares. */
export const DEFAULT_LIMITS: ApiLimits = {
  bodyBytes: 1024 * 1024,
  jsonDepth: 32,
  messages: 1024,
  logitBias: 1024,
  running: 8,
  waiting: 32,
  requestMs: 600_000,
  keepAliveMs: 15_000,
}
