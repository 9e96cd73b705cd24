import type { Model } from '../../model/model.ts'
import { blockGraph, expertGraph, type BlockGraph } from './block-graph.ts'
import { readBlock, readExpert, type GraphWeights } from './block-weights.ts'
import type { HeadLayout } from './head-layout.ts'
import type { Graph } from './onnx-graph.ts'
import type { OrtRuntime, OrtSession } from './ort-runtime.ts'

/** A block ready to run. */
export interface LoadedBlock {
  readonly graph: BlockGraph
  readonly session: OrtSession
  /** In the order of their numbers; none without a mixture. */
  readonly experts: readonly OrtSession[]
}

/**
 * Reads block number `block` into WebAssembly memory, a session for it and one for each expert: no more than one
 * session's weights exist twice at a time. Each session goes into `sessions`, the caller's to close, also when a later
 * one fails.
 */
export async function loadBlock(
  runtime: OrtRuntime,
  sessions: OrtSession[],
  model: Model,
  layout: HeadLayout,
  block: number,
  signal: AbortSignal | undefined,
): Promise<LoadedBlock> {
  const { spec } = model
  const createSession = async (graph: Graph, weights: Promise<GraphWeights>): Promise<OrtSession> => {
    const session = await runtime.createSession(graph, await weights)
    sessions.push(session)
    return session
  }
  signal?.throwIfAborted()
  const graph = blockGraph(spec, layout, block)
  const session = await createSession(graph, readBlock(model, layout, block, signal))
  const experts: OrtSession[] = []
  const expertCount = spec.mlp.kind === 'moe' ? spec.mlp.expertCount : 0
  for (let expert = 0; expert < expertCount; expert++) {
    signal?.throwIfAborted()
    const own = expertGraph(spec, block, expert)
    experts.push(await createSession(own, readExpert(model, block, expert, signal)))
  }
  return { graph, session, experts }
}
