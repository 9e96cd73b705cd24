/** One session's room in the KV cache. */
export interface KvLease {
  readonly maxTokens: number
  /** Tokens in the cache. */
  readonly position: number
  /** Forgets everything from `position` on. @throws `bad_request` when it is beyond the present position. */
  rollback(position: number): void
  /** Gives the room back; calling it twice is harmless. */
  release(): void
}
