import type { Engine } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { blockWeights } from '../../src/model/block-part.ts'
import type { Model } from '../../src/model/model.ts'
import { type DraftModel, loadDraftModel } from '../../src/session/draft-model.ts'
import { fetchBlobs, fetchClientPart } from './fetch-part.ts'
import type { DraftSource } from './messages.ts'

export interface FetchDraftOptions {
  /** The gateway's API key. */
  readonly key: string | undefined
  readonly target: Model
  readonly engine: Engine
  readonly log: Logger
}

/** One chat at a time: a tab's memory is not all ours. */
const KV_TOKENS = 2_048

/**
 * Fetches a whole model from a gateway, through the cache, and loads it as a draft.
 * @throws `bad_config` for another tokenizer, `unreachable`, `not_found`, `bad_file`, `engine`.
 */
export async function fetchDraft(source: DraftSource, options: FetchDraftOptions): Promise<DraftModel> {
  const { key, ...others } = options
  const onProgress = (): void => undefined
  const client = await fetchClientPart(source.part, { url: source.url, key, onProgress })
  const wanted = source.blocks.map(({ part, url }) => ({
    blob: { ...part, name: `block${part.block}` },
    url,
  }))
  const { blobs } = await fetchBlobs(wanted, { key, onProgress })
  const here = new Map(source.blocks.map(({ part }, i) => [part.block, blobs[i]!]))
  const blocks = blockWeights(
    source.part,
    source.blocks.map(({ part }) => part),
    async (block) => {
      const bytes = here.get(block)
      if (bytes === undefined) throw new ChoraleError('not_found', `block ${block} is not here`)
      return bytes
    },
  )
  const { clientInfo, client: clientWeight } = client.model.weights
  const model: Model = { ...client.model, weights: { ...blocks, clientInfo, client: clientWeight } }
  const draft = await loadDraftModel({ ...others, model, kvTokens: KV_TOKENS })
  client.release()
  here.clear()
  return draft
}
