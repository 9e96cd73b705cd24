import { ChoraleError, errorCode, errorMessage } from '../errors.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkOutput } from './check-output.ts'
import { cancelled, wantedCount } from './check-step.ts'
import { createDeadlines } from './deadlines.ts'
import type { History } from './history.ts'
import { createHistory } from './history.ts'
import { type Watch, watched } from './hop-watch.ts'
import { atMost } from './race-signal.ts'
import type {
  AdoptRange,
  HandoverGrantFrom,
  PushedStep,
  PushLinks,
  PushPort,
  RouteHop,
  SessionHandover,
  SpanRunner,
  SpanSession,
  StepOptions,
} from './span-runner.ts'
import type { StepPace } from './step-pace.ts'

/**
 * One server's part of a chain session: its stream, everything it was given, and a watch on its silence.
 *
 * A hop that failed once is dead for good: pending steps reject at once, and the chain replaces it.
 */
export interface Hop {
  readonly server: ServerRecord
  readonly route: RouteHop
  readonly history: History
  /** Tokens in the server's cache, as far as it answered. */
  readonly position: number
  /** Why the hop is dead; undefined while it lives. */
  readonly failure: unknown
  /** When the server last answered, ms since the epoch. */
  readonly lastSignOfLife: number
  /** Steps that succeeded. */
  readonly steps: number
  /** Resolves when the server says that it leaves; undefined where it would not say. */
  readonly leaving: Promise<void> | undefined
  /** Runs and checks one step. Steps run in call order. @throws what killed the hop, or `cancelled`. */
  step(input: Tensor, want: StepOptions['want'], signal: AbortSignal | undefined): Promise<Tensor>
  /** How servers feed each other; undefined where they can't. */
  readonly push: PushPort | undefined
  /** Whether the server gives its outputs to the next hop's server by itself. */
  linked: boolean
  /** Links the server anew; `linked` says whether there is a next one now. */
  link(links: PushLinks): void
  /** Runs and checks a step that was begun on `push`. @throws what killed the hop, what `forget` says, `cancelled`. */
  follow(step: PushedStep, options: FollowOptions): Promise<Awaited<PushedStep['answer']>>
  /** Gives up the steps from number `seq` on; the hop lives. */
  forget(seq: number): void
  /** How the hop's server hands sessions over and takes them; undefined where it can't. */
  readonly handover: SessionHandover | undefined
  /**
   * Has the server get tokens from those that the grants name; the history is the caller's to set. @returns the position
   * reached. @throws what killed the hop.
   */
  adopt(grants: readonly HandoverGrantFrom[], range: AdoptRange): Promise<number>
  /** Resolves when no followed step waits for its answer. Never throws. */
  settled(): Promise<void>
  /** Takes server and history back to `position`; a server that can't is dead afterwards. Never throws. */
  rollback(position: number): Promise<void>
  /** Declares the hop dead. */
  kill(error: unknown): void
  /** Frees the server's room without waiting for a dead server. Never throws. */
  close(): Promise<void>
}

export interface FollowOptions {
  readonly tokens: number
  /** Resolves when the hop's input is known to be there: only then can its server be late. */
  readonly given: Promise<unknown>
  readonly signal: AbortSignal | undefined
  /** Brings the input once more by way of the client, in case it was lost between the servers. */
  readonly again: () => void
}

export interface HopOptions {
  readonly server: ServerRecord
  readonly runner: SpanRunner
  readonly session: SpanSession
  readonly hiddenSize: number
  readonly maxTokens: number
  readonly pace: StepPace
  readonly clock: () => number
  /** Whether it was opened with a link to the next hop. */
  readonly linked?: boolean
}

/** A server that does not even answer a goodbye is not waited for. */
const CLOSE_MS = 2_500
/** Copies of outputs that only histories need are late by this at most. */
const SETTLE_MS = 500

/** Errors that are the caller's own: the same request would fail on every server. */
export function isCallersError(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'bad_request' || code === 'context_length'
}

/** Wraps an open session with a server; `close` closes session and runner. */
export function createHop(options: HopOptions): Hop {
  const { server, runner, session, hiddenSize, pace, clock } = options
  const history = createHistory(hiddenSize, options.maxTokens)
  let failure: unknown
  let lastSignOfLife = clock()
  let steps = 0
  let closing: Promise<void> | undefined
  const dead = new AbortController()
  const deadlines = createDeadlines()
  let linked = options.linked ?? false
  /** Followed steps that wait. */
  const following = new Set<Promise<unknown>>()
  /** After the last followed step. */
  let nextSeq = 0
  /** Steps [from, to) were given up by this client: no fault of the server. */
  let forgotten: { readonly from: number; readonly to: number } | undefined

  function kill(error: unknown): void {
    if (dead.signal.aborted) return
    failure = error
    dead.abort(error)
  }

  const watch = (
    patience: number,
    signal?: AbortSignal,
    input?: Pick<FollowOptions, 'given' | 'again'>,
  ): Watch => ({
    server,
    patience,
    signal,
    dead: dead.signal,
    clock,
    deadlines,
    lastSignOfLife: () => lastSignOfLife,
    ...(input && { input }),
  })

  async function step(input: Tensor, want: StepOptions['want'], signal: AbortSignal | undefined) {
    if (failure !== undefined) throw failure
    const sentAt = clock()
    const [count] = input.shape
    try {
      const work = session.step(input, { want: want ?? 'all', ...(signal && { signal }) })
      const output = await watched(work, watch(pace.patience(server, count), signal))
      checkOutput(output, wantedCount(count, want), hiddenSize, server)
      const now = clock()
      pace.note(server.peerId, count, now - Math.max(sentAt, lastSignOfLife))
      lastSignOfLife = now
      steps++
      return output
    } catch (error) {
      if (signal?.aborted) throw cancelled()
      if (!isCallersError(error)) kill(error)
      throw error
    }
  }

  async function follow(step: PushedStep, options: FollowOptions): Promise<Awaited<PushedStep['answer']>> {
    nextSeq = step.seq + 1
    if (failure !== undefined) throw failure
    const { tokens, signal } = options
    let since = clock()
    void options.given.then(
      () => (since = clock()),
      () => undefined,
    )
    try {
      const answer = await watched(step.answer, watch(pace.patience(server, tokens), signal, options))
      checkOutput(answer.hidden, wantedCount(tokens, step.want), hiddenSize, server)
      const now = clock()
      pace.note(server.peerId, tokens, now - Math.max(since, lastSignOfLife))
      lastSignOfLife = now
      steps++
      return answer
    } catch (error) {
      if (signal?.aborted) throw cancelled()
      const givenUp = forgotten !== undefined && step.seq >= forgotten.from && step.seq < forgotten.to
      if (!givenUp && !isCallersError(error)) kill(error)
      throw error
    }
  }

  return {
    server,
    get route() {
      const { start, end, peerId: peer, engine } = server
      return session.route[0] ?? { start, end, peer, engine }
    },
    history,
    get position() {
      return session.position
    },
    get failure() {
      return failure
    },
    get lastSignOfLife() {
      return lastSignOfLife
    },
    get steps() {
      return steps
    },
    leaving: session.leaving,
    step,
    push: session.push,
    get linked() {
      return linked
    },
    set linked(value) {
      linked = value
    },
    link(links) {
      session.push?.link(links)
      if (links.next) linked = true
    },
    follow(step, followOptions) {
      const work = follow(step, followOptions)
      const tracked = work.then(
        () => undefined,
        () => undefined,
      )
      following.add(tracked)
      void tracked.then(() => following.delete(tracked))
      return work
    },
    forget(seq) {
      forgotten = { from: seq, to: nextSeq }
      session.push?.forget(seq)
    },
    get handover() {
      return session.handover
    },
    async adopt(grants, range) {
      if (failure !== undefined) throw failure
      try {
        if (!session.handover) throw new ChoraleError('not_supported', 'the server takes no sessions over')
        const work = session.handover.adopt(grants, range)
        const reached = await watched(work, watch(range.deadlineMs + pace.patience(server, 1)))
        lastSignOfLife = clock()
        return reached
      } catch (error) {
        kill(error)
        throw error
      }
    },
    async settled() {
      await Promise.all(following)
    },
    async rollback(position) {
      history.truncate(position)
      if (failure !== undefined || session.position === position) return
      try {
        await watched(session.rollback(position), watch(pace.patience(server, 1)))
        lastSignOfLife = clock()
      } catch (error) {
        kill(error)
      }
    },
    kill,
    close() {
      closing ??= (async () => {
        // What other servers have already may come a little later; a session that waits for answers ends rudely.
        if (failure === undefined && following.size > 0) await atMost(Promise.all(following), SETTLE_MS)
        await closeBoth(session, runner)
        deadlines.end()
      })()
      return closing
    },
  }
}

async function closeBoth(session: SpanSession, runner: SpanRunner): Promise<void> {
  // A server that is gone can't be told: its lease ends with the connection.
  const goodbye = session
    .close()
    .catch(() => undefined)
    .then(() => runner.close())
    .catch(() => undefined)
  await atMost(goodbye, CLOSE_MS)
}

/** Why a hop failed, short enough for an event. */
export function failureReason(error: unknown): string {
  return `${errorCode(error)}: ${errorMessage(error)}`
}
