import type { Context } from 'hono'
import type { LanguageModel } from '../session/language-model.ts'
import type { NetworkModel } from '../session/network-models.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { findModel } from './find-model.ts'
import { readinessOf } from './health.ts'

/** `GET /v1/models`: those that are answered for here, then the others of the network with `available: false`. */
export async function listModels(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const network = await networkOf(api)
  const own = await Promise.all(api.models().map((model) => describe(api, model, network)))
  const others = network.filter(({ model }) => !own.some(({ id }) => id === model.modelId))
  return c.json({ object: 'list', data: [...own, ...others.map((one) => describeOther(api, one))] })
}

/** `GET /v1/models/{id}`: ids contain `/`, so the id is the rest of the path. */
export async function showModel(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const wanted = decodePath(new URL(c.req.url).pathname.slice('/v1/models/'.length))
  const network = await networkOf(api)
  const other = network.find(({ model }) => model.modelId === wanted)
  const here = api.models().some(({ model }) => model.id === wanted)
  if (other !== undefined && !here) return c.json(describeOther(api, other))
  return c.json(await describe(api, findModel(api.models(), wanted), network))
}

/** A directory that does not answer makes no model unknown. */
async function networkOf(api: ApiContext): Promise<readonly NetworkModel[]> {
  return (await api.networkModels?.().catch(() => [])) ?? []
}

async function describe(api: ApiContext, model: LanguageModel, network: readonly NetworkModel[]) {
  const { spec, weights } = model.model
  const { ready, missing } = await readinessOf(api, model).catch(() => ({ ready: false, missing: [] }))
  const served = network.find((one) => one.model.modelId === model.model.id)
  return {
    id: model.model.id,
    object: 'model',
    created: Math.floor(api.startedAt / 1000),
    owned_by: 'chorale',
    meta: {
      name: model.model.name,
      family: spec.family,
      context_length: model.contextLength,
      blocks: spec.blockCount,
      hidden_size: spec.hiddenSize,
      vocab_size: spec.vocabSize,
      format: model.model.format,
      quantization: weights.blockInfo(0, 'q').dtype,
      revision: model.model.revision ?? null,
      chat: model.tokenizer.hasChatTemplate,
      available: true,
      ready,
      missing_blocks: missing.map(({ start, end }) => [start, end]),
      ...(served && servedBy(served)),
    },
  }
}

/** A model of the network that this gateway does not answer for: what its servers say of it. */
function describeOther(api: ApiContext, other: NetworkModel) {
  const { complete, missing, model } = other
  return {
    id: model.modelId,
    object: 'model',
    created: Math.floor(api.startedAt / 1000),
    owned_by: 'chorale',
    meta: {
      name: model.name,
      blocks: model.blockCount,
      hidden_size: model.hiddenSize,
      quantization: model.precision ?? null,
      revision: model.revision ?? null,
      available: false,
      ready: complete,
      missing_blocks: missing.map(({ start, end }) => [start, end]),
      ...servedBy(other),
    },
  }
}

function servedBy({ servers, weakest }: NetworkModel) {
  return { servers, weakest_block: weakest ?? null }
}

/** Percent-decodes where it can: an id that can't be decoded is simply unknown. */
function decodePath(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
