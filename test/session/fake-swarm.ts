import type { EngineSpan } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import type { ChainOptions } from '../../src/session/chain-options.ts'
import type { Directory } from '../../src/session/directory.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import type { SessionHandover, SpanRunner, SpanSession } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { createFakeEngineSpan } from './fake-engine-span.ts'

export type FakeMode = 'ok' | 'dead' | 'stalled' | 'nan' | 'short' | 'full' | 'bad_request'

/** `half` gives some of the tokens, `wrong` other numbers, `stuck` nothing until its deadline. */
export type FakeHandover = 'ok' | 'half' | 'wrong' | 'stuck' | 'refused'

/** A server in this process that can be told to misbehave. */
export interface FakeServer {
  readonly id: string
  readonly record: ServerRecord
  readonly freeTokens: number
  readonly openSessions: number
  /** Steps it was asked for. */
  readonly steps: number
  mode: FakeMode
  /** How it hands sessions over; by itself: not at all. */
  handover: FakeHandover
  /** Called before each step with its number; may change modes. */
  onStep: ((step: number) => void) | undefined
  /** Tells its sessions that it will leave, and takes no new ones. */
  leave(): void
}

export interface FakeSwarm {
  readonly servers: ReadonlyMap<string, FakeServer>
  readonly directory: Directory
  readonly connect: ChainOptions['connect']
  server(id: string): FakeServer
  /** Everybody well again: sessions that stalled servers hold are freed. */
  heal(): void
}

export interface FakeServerSpec {
  readonly id: string
  readonly start: number
  readonly end: number
  readonly kvTokens?: number
  readonly throughput?: number
  /** Computes the blocks instead of the fake engine. */
  readonly engineSpan?: EngineSpan
  /** Whether it hands its sessions over and takes others'. */
  readonly handsOver?: boolean
}

/** Servers over `createFakeEngineSpan`, each behind what a network connection to it would do. */
export function createFakeSwarm(hiddenSize: number, specs: readonly FakeServerSpec[]): FakeSwarm {
  const wakers = new Set<() => void>()
  const servers = new Map<string, FakeServer & { open(record: ServerRecord): SpanRunner }>()
  for (const spec of specs) servers.set(spec.id, createFakeServer(hiddenSize, spec, wakers))
  const live = () => [...servers.values()].map((server) => server.record)
  return {
    servers,
    directory: {
      announce: async () => undefined,
      withdraw: async () => undefined,
      servers: async () => live(),
      models: async () => [],
    },
    connect: (record) => {
      const server = servers.get(record.peerId)
      if (!server) throw new ChoraleError('unreachable', `no server ${record.peerId}`)
      return server.open(record)
    },
    server(id) {
      const server = servers.get(id)
      if (!server) throw new Error(`no server ${id}`)
      return server
    },
    heal() {
      for (const server of servers.values()) {
        server.mode = 'ok'
        server.onStep = undefined
      }
      for (const wake of wakers) wake()
    },
  }
}

/** What servers of all swarms let others take, by the grant's number. */
const granted: {
  readonly session: SpanSession
  readonly start: number
  readonly end: number
  readonly how: () => FakeHandover
  readonly alive: () => FakeMode
}[] = []

function createFakeServer(hiddenSize: number, spec: FakeServerSpec, wakers: Set<() => void>) {
  const { id, start, end, kvTokens = 4096, throughput = 1000 } = spec
  const kvRows = spec.handsOver === true
  const engine = spec.engineSpan ?? createFakeEngineSpan({ start, end, kvTokens, kvRows })
  const local = createLocalSpan(engine, { modelId: 'fake@1', hiddenSize, engineName: 'fake', peer: id })
  const sessions = new Set<SpanSession>()
  const state = {
    mode: 'ok' as FakeMode,
    handover: 'ok' as FakeHandover,
    steps: 0,
    onStep: undefined as ((step: number) => void) | undefined,
  }
  const leaving = Promise.withResolvers<void>()
  const gone = () => new ChoraleError('unreachable', `${id} is gone`)
  const wake = () =>
    new Promise<void>((resolve) => {
      const me = () => {
        wakers.delete(me)
        resolve()
      }
      wakers.add(me)
    })

  async function misbehave(): Promise<void> {
    if (state.mode === 'dead') throw gone()
    if (state.mode === 'stalled') await wake()
  }

  function wrap(inner: SpanSession): SpanSession {
    sessions.add(inner)
    let over = false
    async function finish() {
      over = true
      await inner.close()
      sessions.delete(inner)
    }
    return {
      get position() {
        return inner.position
      },
      route: inner.route,
      handover: kvRows ? handoverOf(inner) : undefined,
      leaving: leaving.promise,
      async step(hidden, options) {
        state.onStep?.(state.steps++)
        if (over) throw gone()
        // The step is handed on in call order; only its answer is tampered with.
        const work =
          state.mode === 'stalled' || state.mode === 'dead' ? undefined : inner.step(hidden, options)
        work?.catch(() => undefined)
        const mode = state.mode
        await misbehave()
        if (!work) throw gone()
        if (mode === 'bad_request') throw new ChoraleError('bad_request', 'no')
        const output = await work
        // A server that died meanwhile took the session with it.
        await misbehave()
        return garble(output, mode)
      },
      async rollback(position) {
        await misbehave()
        await inner.rollback(position)
      },
      async close() {
        if (state.mode === 'stalled') {
          // The goodbye waits in a socket until the process goes on.
          void wake().then(finish)
          return
        }
        await finish()
      },
    }
  }

  /** Sessions hand their rows over in this process; a grant names a place in `granted`. */
  function handoverOf(inner: SpanSession): SessionHandover {
    return {
      precision: 'f32',
      width: 1,
      async grant(_, { start: from, end: to }) {
        await misbehave()
        granted.push({
          session: inner,
          start: from,
          end: to,
          how: () => state.handover,
          alive: () => state.mode,
        })
        return { grant: Uint8Array.of((granted.length - 1) >> 8, (granted.length - 1) & 255), addrs: [] }
      },
      async adopt(grants, { from, to, deadlineMs }) {
        await misbehave()
        if (inner.position > from) await inner.rollback(from)
        const reached = await Promise.all(
          grants.map(async ({ grant }) => {
            const giver = granted[grant[0]! * 256 + grant[1]!]!
            const last = Math.min(to, giver.session.position)
            const end = giver.how() === 'half' ? Math.floor((from + last) / 2) : last
            if (end <= from || giver.how() === 'refused' || giver.alive() === 'dead') return from
            if (giver.how() === 'stuck') await new Promise((resolve) => setTimeout(resolve, deadlineMs))
            const range = { start: giver.start, end: giver.end, from, to: end }
            const rows = await giver.session.kv!.read(range)
            // Time for steps and rollbacks while it is on its way.
            await new Promise((resolve) => setTimeout(resolve, 2))
            await misbehave()
            // The fake engine reads the last token only.
            if (giver.how() === 'wrong') rows[end - from - 1] = (rows[end - from - 1]! + 1) % 9973
            inner.kv!.write(range, rows)
            return end
          }),
        )
        const position = Math.min(...reached)
        if (position > from) inner.kv!.advance(position)
        return position
      },
    }
  }

  return {
    id,
    get handover() {
      return state.handover
    },
    set handover(how: FakeHandover) {
      state.handover = how
    },
    leave() {
      state.mode = state.mode === 'ok' ? 'full' : state.mode
      leaving.resolve()
    },
    get freeTokens() {
      return engine.kvTokensFree
    },
    get openSessions() {
      return sessions.size
    },
    get steps() {
      return state.steps
    },
    get mode() {
      return state.mode
    },
    set mode(mode: FakeMode) {
      state.mode = mode
    },
    get onStep() {
      return state.onStep
    },
    set onStep(hook: ((step: number) => void) | undefined) {
      state.onStep = hook
    },
    get record(): ServerRecord {
      return {
        peerId: id,
        addrs: [],
        modelId: 'fake@1',
        start,
        end,
        state: 'online',
        throughput,
        freeKvTokens: engine.kvTokensFree,
        sessions: 0,
        engine: 'fake',
        precision: 'f32',
        version: '0',
        issuedAt: 0,
        expiresAt: Number.MAX_SAFE_INTEGER,
      }
    },
    open(_record: ServerRecord): SpanRunner {
      return {
        modelId: 'fake@1',
        hiddenSize,
        span: { start, end },
        async open(options) {
          await misbehave()
          if (state.mode === 'full') throw new ChoraleError('capacity', `${id} is full`)
          return wrap(await local.open(options))
        },
        close: async () => undefined,
      }
    },
  }
}

function garble(output: Tensor, mode: FakeMode): Tensor {
  if (mode === 'nan') return { shape: output.shape, data: output.data.map(() => Number.NaN) }
  if (mode !== 'short') return output
  const [count, columns] = output.shape
  return { shape: [count + 1, columns], data: new Float32Array((count + 1) * columns) }
}
