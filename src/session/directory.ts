import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'

/** Port: who serves what. Implementations: the DHT (`swarm/`), and in memory for tests and single processes. */
export interface Directory {
  /** Publishes this peer's record; again after every change and before it expires. */
  announce(record: ServerRecord, model: ModelRecord): Promise<void>
  /** Takes this peer's record back (best effort: it expires anyway). */
  withdraw(modelId: string): Promise<void>
  /** Unexpired, valid records of a model's servers, newest record a peer. */
  servers(modelId: string, signal?: AbortSignal): Promise<readonly ServerRecord[]>
  /** Models that some unexpired record names. */
  models(signal?: AbortSignal): Promise<readonly ModelRecord[]>
}
