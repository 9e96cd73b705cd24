import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { checkClientPart, type ClientPart } from '../../src/model/client-part.ts'
import type { ServerState } from '../../src/routing/snapshot.ts'
import type { ModelSummary } from '../../src/session/network-models.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { readEvents } from './read-events.ts'
import { readSubnetView, type SubnetView } from './subnet-view.ts'

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

/** A model of the network, as `/api/v1/state` lists it. */
export interface ModelView extends ModelSummary {
  /** Whether the gateway has its client's part: this tab can ask it. */
  readonly here: boolean
  readonly peers: readonly ServerView[]
}

/** A model and who serves it, as `/api/v1/state` tells it. */
export interface SwarmState {
  readonly model: string
  readonly blocks: number
  readonly servers: readonly ServerView[]
  readonly ready: boolean
  readonly missing: readonly Span[]
  /** Every model of the network, this one too; none where the gateway's version does not tell. */
  readonly models: readonly ModelView[]
  /** Addresses of peers that lead into the network. */
  readonly bootstrap: readonly string[]
  /** Ids of models that guess for it and that pages may fetch whole. */
  readonly drafts: readonly string[]
  /** Its subnet, where peers need stake. */
  readonly subnet: SubnetView | undefined
}

/** The gateway that gives a page its model and its way into the network. It sees no prompt. */
export interface Gateway {
  readonly url: string
  readonly key: string | undefined
  state(signal?: AbortSignal): Promise<SwarmState>
  /** Gives the state at every change until `signal`, or until the stream ends. @throws `unreachable` where there is none. */
  follow(onState: (state: SwarmState) => void, signal: AbortSignal): Promise<void>
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

  const headers: Readonly<Record<string, string>> =
    key === undefined ? {} : { authorization: `Bearer ${key}` }

  async function get(address: string, signal?: AbortSignal): Promise<unknown> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS)
    let response: Response
    try {
      response = await fetch(address, {
        headers,
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
      return readState(await get(new URL('api/v1/state', base).href, signal))
    },
    async follow(onState, signal) {
      const address = new URL('api/v1/events', base).href
      // Fetched, not an EventSource: that one can send no key.
      const response = await fetch(address, { headers, signal, cache: 'no-store' })
      if (!response.ok || response.body === null) {
        throw new ChoraleError('unreachable', `the gateway answered ${response.status} for its events`)
      }
      for await (const data of readEvents(response.body)) onState(readState(JSON.parse(data)))
    },
    blockPart: async (model, block) => await get(blockPath(model, block)),
    blockUrl: (model, block) => `${blockPath(model, block)}/bytes`,
    clientPart: async (model) => checkClientPart(await get(partUrl(model))),
  }
}

/** The state with another of its models in front; unchanged where the gateway can't give a page that one. */
export function stateOfModel(state: SwarmState, id: string | undefined): SwarmState {
  const listed = state.models.map((model) =>
    model.id === state.model ? { ...model, peers: state.servers } : model,
  )
  const chosen = listed.find((model) => model.id === id && model.here)
  if (chosen === undefined) return { ...state, models: listed }
  const { blocks, complete: ready, missing, peers: servers } = chosen
  return { ...state, model: chosen.id, blocks, ready, missing, servers, models: listed }
}

/** @throws `unreachable` for what is no state. */
function readState(value: unknown): SwarmState {
  const state = value as Partial<SwarmState> | undefined | null
  if (typeof state?.model !== 'string' || !Array.isArray(state.servers)) {
    throw new ChoraleError('unreachable', 'this gateway leads into no swarm', { field: 'swarm' })
  }
  return {
    ready: false,
    missing: [],
    bootstrap: [],
    models: [],
    blocks: 0,
    ...state,
    drafts: Array.isArray(state.drafts) ? state.drafts.filter((id) => typeof id === 'string') : [],
    subnet: readSubnetView(state.subnet),
  } as SwarmState
}
