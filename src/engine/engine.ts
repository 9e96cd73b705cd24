import type { KvRows } from '../kv/kv-rows.ts'
import type { KvLease } from '../kv/lease.ts'
import type { SharedPages } from '../kv/shared-pages.ts'
import type { Model } from '../model/model.ts'
import type { Tensor } from '../tensor/tensor.ts'

export type EngineName = 'reference' | 'onnx' | 'wgsl' | 'wasm'

/**
 * What computes blocks on one machine.
 *
 * Invariant every engine keeps: a session's numbers do not depend on what else is in a batch, nor on how its
 * tokens were cut into steps. The same tokens give the same bits in one prefill, in chunks and one by one;
 * failover replays history in one prefill and relies on it.
 */
export interface Engine {
  readonly name: EngineName
  /** For people: library, version, adapter, threads. */
  readonly description: string
  /** CPU threads the engine computes with; 0 when it runs on a GPU. */
  readonly threads: number
  /** Reads and holds the weights of blocks [start, end) and nothing else. @throws `engine`, `bad_request`, `capacity`. */
  loadSpan(model: Model, options: LoadSpanOptions): Promise<EngineSpan>
  /** Final norm and head: the client's part. */
  loadHead(model: Model, options?: LoadOptions): Promise<EngineHead>
  /** Frees the device or threads. Loaded spans and heads must be closed before. */
  close(): Promise<void>
}

export interface LoadOptions {
  signal?: AbortSignal
  /** Bytes of weights read so far and in all. */
  onProgress?: (loadedBytes: number, totalBytes: number) => void
}

export interface LoadSpanOptions extends LoadOptions {
  start: number
  /** Exclusive. */
  end: number
  /** Tokens of KV cache shared by all sessions; allocated now, never grown. */
  kvTokens: number
}

/** Blocks [start, end) in memory with their KV cache. */
export interface EngineSpan {
  readonly start: number
  readonly end: number
  readonly weightBytes: number
  readonly kvBytes: number
  readonly kvTokens: number
  readonly kvTokensFree: number
  /** Reserves room for one session of at most `maxTokens` tokens. @throws `capacity` when there is none. */
  lease(maxTokens: number): KvLease
  /**
   * Pages of the KV cache that several leases may read, for engines whose cache has pages. Not while a step that has
   * the lease in question is under way.
   */
  readonly sharedPages?: SharedPages
  /** Keys and values as rows that other machines understand, for engines that can show theirs. */
  readonly kvRows?: KvRows
  /**
   * Appends each entry's hidden states to its lease and runs the blocks. Entries belong to different leases.
   * One call at a time: `LocalSpan` queues.
   * @returns one tensor an entry, the shape of its input [tokens, hiddenSize].
   * @throws `capacity` when an entry would pass its lease's `maxTokens` (nothing is computed then).
   */
  step(entries: readonly StepEntry[]): Promise<Tensor[]>
  close(): Promise<void>
}

export interface StepEntry {
  readonly lease: KvLease
  readonly hidden: Tensor
}

export interface EngineHead {
  readonly weightBytes: number
  /**
   * Logits [rows, vocabSize] of hidden states [rows, hiddenSize] that left the last block.
   * Callers pass only the rows they sample from.
   */
  logits(hidden: Tensor): Promise<Tensor>
  /**
   * The token of the highest logit of each row [rows], lowest id on ties; -1 where a logit is not finite. Engines that
   * have it spare the callers of greedy answers the logits.
   */
  best?(hidden: Tensor): Promise<Int32Array>
  /** Hidden states after the final norm [rows, hiddenSize]; for traces. */
  finalNorm(hidden: Tensor): Promise<Tensor>
  close(): Promise<void>
}

export type { KvLease }
