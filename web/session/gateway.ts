import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { checkClientPart, type ClientPart } from '../../src/model/client-part.ts'
import type { ServerState } from '../../src/routing/snapshot.ts'
import type { Span } from '../../src/session/span-runner.ts'

/** One server, as `/api/v1/state` tells it. */
export interface ServerView extends Span {
  readonly peer: string
  readonly engine: string
  readonly state: ServerState
  readonly addrs: readonly string[]
  readonly version: string
  /** Tokens per second of the span alone. */
  readonly throughput: number
  readonly freeKvTokens: number
  readonly sessions: number
}

/** A model and who serves it, as `/api/v1/state` tells it. */
export interface SwarmState {
  readonly model: string
  readonly blocks: number
  readonly servers: readonly ServerView[]
  readonly ready: boolean
  readonly missing: readonly Span[]
  /** Addresses of peers that lead into the network. */
  readonly bootstrap: readonly string[]
}

/** The gateway that gives a page its model and its way into the network. It sees no prompt. */
export interface Gateway {
  readonly url: string
  readonly key: string | undefined
  state(signal?: AbortSignal): Promise<SwarmState>
  clientPart(model: string): Promise<ClientPart>
  /** Address of a model's client part. */
  partUrl(model: string): string
  /** What a block's bytes hold, unchecked. */
  blockPart(model: string, block: number): Promise<unknown>
  /** Address of a block's bytes. */
  blockUrl(model: string, block: number): string
}

const TIMEOUT_MS = 10_000

/** @param url the page's own origin, or another gateway's. */
export function createGateway(url: string, key: string | undefined): Gateway {
  const base = url.endsWith('/') ? url : `${url}/`
  const partUrl = (model: string) => new URL(`api/v1/client/${encodeURIComponent(model)}`, base).href

  const blockPath = (model: string, block: number) =>
    new URL(`api/v1/blocks/${encodeURIComponent(model)}/${block}`, base).href

  async function get(address: string, signal?: AbortSignal): Promise<unknown> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS)
    let response: Response
    try {
      response = await fetch(address, {
        headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        cache: 'no-store',
      })
    } catch (cause) {
      throw new ChoraleError('unreachable', `the gateway does not answer: ${errorMessage(cause)}`, { cause })
    }
    const body: unknown = await response.json().catch(() => undefined)
    if (response.ok) return body
    const message = (body as { error?: { message?: string } } | undefined)?.error?.message
    throw new ChoraleError(
      response.status === 401 ? 'bad_config' : 'unreachable',
      message ?? `the gateway answered ${response.status}`,
      response.status === 401 ? { field: 'key' } : {},
    )
  }

  return {
    url: base,
    key,
    partUrl,
    async state(signal) {
      const value = (await get(new URL('api/v1/state', base).href, signal)) as Partial<SwarmState> | undefined
      if (typeof value?.model !== 'string' || !Array.isArray(value.servers)) {
        throw new ChoraleError('unreachable', 'this gateway leads into no swarm', { field: 'swarm' })
      }
      return { ready: false, missing: [], bootstrap: [], blocks: 0, ...value } as SwarmState
    },
    blockPart: async (model, block) => await get(blockPath(model, block)),
    blockUrl: (model, block) => `${blockPath(model, block)}/bytes`,
    clientPart: async (model) => checkClientPart(await get(partUrl(model))),
  }
}
