import { coverModel, type ModelCoverage } from '../routing/model-coverage.ts'
import type { BlockRange } from '../routing/placement-view.ts'
import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'
import type { Directory } from './directory.ts'

/** A model of the network, and who serves it. */
export interface NetworkModel extends ModelCoverage {
  readonly model: ModelRecord
  /** Its servers, by span. */
  readonly records: readonly ServerRecord[]
}

/** A model of the network in numbers, for lists: JSON of the command line and of `GET /api/v1/state`. */
export interface ModelSummary {
  readonly id: string
  readonly name: string
  readonly blocks: number
  /** Whether every block has an online server. */
  readonly complete: boolean
  readonly missing: readonly BlockRange[]
  /** The block with the fewest servers, and how many. */
  readonly weakest: { readonly block: number; readonly servers: number } | null
  /** Online servers, and the sessions on them. */
  readonly servers: number
  readonly sessions: number
  /** Commit of its files, and how they store the blocks; null where its servers don't say. */
  readonly revision: string | null
  readonly precision: string | null
}

/** Takes the numbers out. Pure. */
export function summarize({
  complete,
  missing,
  model,
  records,
  servers,
  weakest,
}: NetworkModel): ModelSummary {
  return {
    id: model.modelId,
    name: model.name,
    blocks: model.blockCount,
    complete,
    missing,
    weakest: weakest ?? null,
    servers,
    sessions: records.reduce((sum, { sessions }) => sum + sessions, 0),
    revision: model.revision ?? null,
    precision: model.precision ?? null,
  }
}

export interface ListOptions {
  /** Models to list in any case, first, whether or not somebody serves them. */
  readonly own?: readonly ModelRecord[]
  readonly signal?: AbortSignal
}

/** Models of one list: somebody who announces made-up ones must not make every client ask for hundreds. */
export const MAX_LISTED_MODELS = 64
/** Questions under way at once. */
const PARALLEL = 4

/**
 * Every model that servers announce, given on a command line or not, with who serves which of its blocks: own ones
 * first, then complete ones, then by name. What the directory says is signed and expires; a model is as many entries as
 * it has revisions and precisions, because each has its own id.
 * @throws what the directory throws.
 */
export async function listNetworkModels(
  directory: Directory,
  { own = [], signal }: ListOptions = {},
): Promise<readonly NetworkModel[]> {
  const found = await directory.models(signal)
  const byId = new Map([...own, ...found.filter(isSensible)].map((model) => [model.modelId, model]))
  // The command line knows better than the network what the own models are.
  for (const model of own) byId.set(model.modelId, model)
  const waiting = [...byId.values()].slice(0, MAX_LISTED_MODELS)
  const listed: NetworkModel[] = []
  const ask = async (): Promise<void> => {
    for (let model = waiting.shift(); model !== undefined; model = waiting.shift()) {
      const records = [...(await directory.servers(model.modelId, signal))]
      records.sort((a, b) => a.start - b.start || a.end - b.end || (a.peerId < b.peerId ? -1 : 1))
      listed.push({ model, records, ...coverModel(model.blockCount, records) })
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, ask))
  const place = new Map(own.map(({ modelId }, i) => [modelId, i]))
  const rank = ({ model, complete }: NetworkModel): number =>
    place.get(model.modelId) ?? own.length + (complete ? 0 : 1)
  return listed.sort((a, b) => rank(a) - rank(b) || compareText(keyOf(a), keyOf(b)))
}

/** The list, asked for again at most every `freshMs`: many may look at it. A list that fails leaves the last one. */
export function watchNetworkModels(
  directory: Directory,
  {
    own,
    freshMs = 5_000,
    now = Date.now,
  }: { readonly own?: () => readonly ModelRecord[]; readonly freshMs?: number; readonly now?: () => number },
): () => Promise<readonly NetworkModel[]> {
  let last: { readonly at: number; readonly list: Promise<readonly NetworkModel[]> } | undefined
  return async () => {
    if (last !== undefined && now() - last.at < freshMs) return await last.list
    const before = last?.list
    const list = listNetworkModels(directory, { own: own?.() ?? [] }).catch((error: unknown) => {
      if (before === undefined) throw error
      return before
    })
    last = { at: now(), list }
    try {
      return await list
    } catch (error) {
      last = undefined
      throw error
    }
  }
}

function keyOf({ model }: NetworkModel): string {
  return `${model.name}\n${model.modelId}`
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function isSensible({ blockCount }: ModelRecord): boolean {
  return blockCount > 0
}
