import { ChoraleError } from '../../src/errors.ts'
import type { BlockPart } from '../../src/model/block-part.ts'
import { checkBlockPart } from '../../src/model/block-part.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import { kvBytesPerToken } from '../../src/model/spec.ts'
import { joiningSpan } from '../../src/server/placement-loop.ts'
import type { Span } from '../../src/session/span-runner.ts'
import type { BlockAddress } from '../engine/span-messages.ts'
import { browserIdentity } from '../network/tab-identity.ts'
import type { Gateway, SwarmState } from '../session/gateway.ts'

/** What this tab would serve, before anything is loaded. */
export interface Plan {
  readonly state: SwarmState
  readonly model: ClientPart
  readonly span: Span
  readonly kvTokens: number
  /** Weights and KV cache. */
  readonly memoryBytes: number
  /** Weights to fetch, those in this browser's cache included. */
  readonly downloadBytes: number
}

/** Tokens of KV cache for all sessions: four of a usual chat. */
const KV_TOKENS = 4096

/** The blocks that need a server most, as many as the memory holds, or those the user chose. */
export async function makePlan(
  gateway: Gateway,
  memoryBytes: number,
  chosen: Span | undefined,
): Promise<Plan> {
  const state = await gateway.state()
  const model = await gateway.clientPart(state.model)
  const { spec } = model
  const perBlock = model.blockBytes + kvBytesPerToken(spec, 1) * KV_TOKENS
  const fits = Math.floor(memoryBytes / perBlock)
  if (fits < 1 && chosen === undefined) {
    throw new ChoraleError('capacity', `one block takes ${perBlock} bytes, more than the limit`, {
      field: 'memory',
    })
  }
  const span = chosen ?? (await spanToJoin(state, spec.blockCount, fits))
  const blocks = span.end - span.start
  return {
    state,
    model,
    span,
    kvTokens: KV_TOKENS,
    memoryBytes: perBlock * blocks,
    downloadBytes: model.blockBytes * blocks,
  }
}

/** As `chorale serve` chooses; which of equal spans is the same at every look. */
async function spanToJoin({ servers }: SwarmState, blockCount: number, maxBlocks: number): Promise<Span> {
  const now = Date.now()
  // The gateway shows servers whose records are valid now.
  const records = servers.map((server) => ({ ...server, peerId: server.peer, expiresAt: now + 1 }))
  const { peerId } = await browserIdentity()
  return joiningSpan(blockCount, records, { peerId, maxBlocks: Math.min(maxBlocks, blockCount), now })
}

/** Descriptions of a span's blocks. */
export async function blockAddresses(gateway: Gateway, { model, span }: Plan): Promise<BlockAddress[]> {
  const found: BlockAddress[] = []
  for (let block = span.start; block < span.end; block++) {
    const part = await blockPart(gateway, model.id, block)
    found.push({ part, url: gateway.blockUrl(model.id, block) })
  }
  return found
}

async function blockPart(gateway: Gateway, model: string, block: number): Promise<BlockPart> {
  return checkBlockPart(await gateway.blockPart(model, block), block)
}

/** `4:8` as a span of a model with `blockCount` blocks; undefined for an empty text. @throws RangeError. */
export function readBlocks(text: string, blockCount: number | undefined): Span | undefined {
  if (text.trim() === '') return undefined
  const match = /^\s*(\d{1,5})\s*:\s*(\d{1,5})\s*$/.exec(text)
  const start = Number(match?.[1])
  const end = Number(match?.[2])
  if (match === null || start >= end || end > (blockCount ?? Infinity)) throw new RangeError(text)
  return { start, end }
}
