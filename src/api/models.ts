import type { Context } from 'hono'
import type { LanguageModel } from '../session/language-model.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { findModel } from './find-model.ts'
import { readinessOf } from './health.ts'

/** `GET /v1/models`. */
export async function listModels(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const data = await Promise.all(api.models().map((model) => describe(api, model)))
  return c.json({ object: 'list', data })
}

/** `GET /v1/models/{id}`: ids contain `/`, so the id is the rest of the path. */
export async function showModel(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const rest = new URL(c.req.url).pathname.slice('/v1/models/'.length)
  return c.json(await describe(api, findModel(api.models(), decodePath(rest))))
}

async function describe(api: ApiContext, model: LanguageModel) {
  const { spec, weights } = model.model
  // A directory that does not answer makes no model unknown.
  const { ready, missing } = await readinessOf(api, model).catch(() => ({ ready: false, missing: [] }))
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
      chat: model.tokenizer.hasChatTemplate,
      ready,
      missing_blocks: missing.map(({ start, end }) => [start, end]),
    },
  }
}

/** Percent-decodes where it can: an id that can't be decoded is simply unknown. */
function decodePath(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
