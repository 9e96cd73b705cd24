import type { ServerRecord } from '../routing/snapshot.ts'

/** What is known of a model in the network, whether or not servers cover it now. */
export interface ModelRecord {
  readonly modelId: string
  readonly name: string
  readonly blockCount: number
  readonly hiddenSize: number
}

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
