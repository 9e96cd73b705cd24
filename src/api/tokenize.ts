import type { Context } from 'hono'
import type { ApiContext, ApiEnv } from './context.ts'
import { findModel } from './find-model.ts'
import { readJson } from './json-body.ts'
import { checkTextLength, checkTokenIds } from './prompt.ts'
import { detokenizeRequest, tokenizeRequest } from './schemas.ts'

/** `POST /v1/tokenize`: `{model, content, add_special?, parse_special?}` → `{tokens, count, max_model_len}`. */
export async function tokenize(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const body = await readJson(c.req.raw, tokenizeRequest, api.limits)
  const model = findModel(api.models(), body.model)
  checkTextLength(model, 'content', body.content.length)
  const tokens = model.tokenizer.encode(body.content, {
    addSpecial: body.add_special ?? true,
    parseSpecial: body.parse_special ?? true,
  })
  return c.json({ tokens, count: tokens.length, max_model_len: model.contextLength })
}

/** `POST /v1/detokenize`: `{model, tokens}` → `{content}`, special tokens included. */
export async function detokenize(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const body = await readJson(c.req.raw, detokenizeRequest, api.limits)
  const model = findModel(api.models(), body.model)
  const ids = checkTokenIds(model, 'tokens', body.tokens)
  return c.json({ content: model.tokenizer.decode(ids, { special: true }) })
}
