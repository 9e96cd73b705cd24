import { effect, signal } from '@preact/signals'
import type { MeasuredHop } from '../chat/chat.ts'
import type { RouteHop } from '../../src/session/span-runner.ts'
import { ChoraleError, errorCode, errorMessage } from '../../src/errors.ts'
import { checkBlockPart } from '../../src/model/block-part.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { DraftSource } from '../engine/messages.ts'
import type { TabModel } from '../engine/tab-model.ts'
import { loadTabModel } from '../engine/tab-model.ts'
import { joinSwarm, type TabSwarm } from '../network/join-swarm.ts'
import { createGateway, type Gateway, stateOfModel, type SwarmState } from './gateway.ts'
import { gatewayOf, settings } from '../settings/settings.ts'
import { strings } from '../strings.ts'
import { coverageOf, uncovered } from '../swarm/coverage.ts'
import { problemText } from './problem-text.ts'
import { note, tabLog } from './tab-log.ts'

/** How far the tab is on its way to a model it can ask. */
export type Phase =
  | { readonly kind: 'connecting' }
  | {
      readonly kind: 'loading'
      readonly loadedBytes: number
      readonly totalBytes: number
      /** That gave some of it. */
      readonly peers: number
    }
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly problem: string }

export const phase = signal<Phase>({ kind: 'connecting' })
export const tabModel = signal<TabModel | undefined>(undefined)
export const modelName = signal('')
export const swarmState = signal<SwarmState | undefined>(undefined)
export const peerId = signal('')
/** Whether messages wait until every block of the model has a server. */
export const waitsForBlocks = signal(false)
/** The model that was chosen among those of the gateway; undefined = the gateway's own choice. */
export const chosenModel = signal<string | undefined>(undefined)
interface Session {
  readonly gateway: Gateway
  readonly swarm: TabSwarm
  readonly model: TabModel
  readonly part: ClientPart
}

let current: Session | undefined

/** Connects to the gateway, joins its network and loads the client's part of its model. Failures end in `phase`. */
export async function startSession(gatewayUrl: string, key: string | undefined): Promise<void> {
  phase.value = { kind: 'connecting' }
  await endSession()
  if (!globalThis.isSecureContext) {
    phase.value = { kind: 'failed', problem: strings.problems.insecure }
    return
  }
  const gateway = createGateway(gatewayUrl, key)
  let swarm: TabSwarm | undefined
  try {
    const state = stateOfModel(await gateway.state(), chosenModel.value)
    swarmState.value = state
    const part = await gateway.clientPart(state.model)
    modelName.value = part.name
    const { hiddenSize, blockCount } = part.spec
    const record = { modelId: part.id, name: part.name, blockCount, hiddenSize }
    const addrs = [...state.bootstrap, ...state.servers.flatMap((server) => server.addrs)]
    swarm = await joinSwarm(record, addrs, state.subnet !== undefined, tabLog)
    peerId.value = swarm.peerId
    const draft = await draftSource(gateway, state.drafts, settings.value.draft)
    const model = await loadTabModel({
      part,
      draft,
      url: gateway.partUrl(part.id),
      key,
      runner: swarm.chain,
      pieces: swarm.pieces,
      first: part.given === false ? 'peers only' : settings.value.weightsFrom,
      onProgress: (loadedBytes, totalBytes, peers) => {
        phase.value = { kind: 'loading', loadedBytes, totalBytes, peers }
      },
      onLog: note,
    })
    current = { gateway, swarm, model, part }
    tabModel.value = model
    phase.value = { kind: 'ready' }
  } catch (error) {
    await swarm?.close()
    note(`failed: ${errorMessage(error)}`)
    const field = error instanceof ChoraleError ? error.field : undefined
    phase.value = { kind: 'failed', problem: problemText(errorCode(error), errorMessage(error), field) }
  }
}

/** The draft model that the settings name, where the gateway has it still. A chat goes on without. */
async function draftSource(
  gateway: Gateway,
  offered: readonly string[],
  wanted: string,
): Promise<DraftSource | undefined> {
  if (!offered.includes(wanted)) return undefined
  try {
    const part = await gateway.clientPart(wanted)
    const blocks = Array.from({ length: part.spec.blockCount }, async (_, block) => ({
      part: checkBlockPart(await gateway.blockPart(part.id, block), block),
      url: gateway.blockUrl(part.id, block),
    }))
    return { part, url: gateway.partUrl(part.id), blocks: await Promise.all(blocks) }
  } catch (error) {
    note(`no draft model: ${errorMessage(error)}`)
    return undefined
  }
}

/** Connects as the settings say, or as they say now. */
export async function restartSession(): Promise<void> {
  const { url, key } = gatewayOf()
  await startSession(url, key)
}

/** Whether blocks of the model have no server. */
function isShort(): boolean {
  const state = swarmState.value
  return state !== undefined && uncovered(coverageOf(state)).length > 0
}

// The wait is over when they are served; the next gap is another question.
effect(() => {
  if (waitsForBlocks.value && phase.value.kind === 'ready' && !isShort()) waitsForBlocks.value = false
})

/** Leaves the present model and loads another one of the gateway's. */
export async function chooseModel(id: string): Promise<void> {
  chosenModel.value = id
  await restartSession()
}

/** Frees what the tab holds on servers and in memory. */
export async function endSession(): Promise<void> {
  const ending = current
  current = undefined
  tabModel.value = undefined
  await ending?.model.close()
  await ending?.swarm.close()
}

/** A route with what this tab measured of its servers just now. */
export function measuredRoute(route: readonly RouteHop[]): readonly MeasuredHop[] {
  const measures = current?.swarm.measures()
  return route.map((hop) => {
    const { rttMs, path } = measures?.get(hop.peer) ?? {}
    return { ...hop, ...(rttMs !== undefined && { rttMs }), ...(path && { path }) }
  })
}

/** What the model's files say about sampling. */
export function modelDefaults(): ClientPart['generationDefaults'] {
  return current?.part.generationDefaults ?? {}
}

/** The model, once it is here and, where somebody chose to wait for them, all its blocks are served. @throws `unreachable` when it can't be had, `cancelled`. */
export async function waitForModel(abort: AbortSignal): Promise<TabModel> {
  return await new Promise<TabModel>((resolve, reject) => {
    const settle = (act: () => void) => {
      abort.removeEventListener('abort', onAbort)
      // The effect may settle while it is being made.
      queueMicrotask(() => end())
      act()
    }
    const onAbort = () => settle(() => reject(new ChoraleError('cancelled', 'stopped')))
    abort.addEventListener('abort', onAbort, { once: true })
    const end = effect(() => {
      const model = tabModel.value
      const now = phase.value
      const short = waitsForBlocks.value && isShort()
      if (abort.aborted) onAbort()
      else if (now.kind === 'failed') settle(() => reject(new ChoraleError('unreachable', now.problem)))
      else if (model !== undefined && now.kind === 'ready' && !short) settle(() => resolve(model))
    })
  })
}

/** The state, at every change, until `signal`. Rejects or ends where the gateway can't push; polling helps then. */
export async function followSwarmState(signal: AbortSignal): Promise<void> {
  const { url, key } = gatewayOf()
  const gateway = current?.gateway ?? createGateway(url, key)
  await gateway.follow((state) => (swarmState.value = stateOfModel(state, chosenModel.value)), signal)
}

/** Asks the gateway again who serves what. */
export async function refreshSwarmState(): Promise<void> {
  const state = await current?.gateway.state().catch(() => undefined)
  if (state !== undefined) swarmState.value = stateOfModel(state, chosenModel.value)
}
