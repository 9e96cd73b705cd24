import { bytesToHex } from '@noble/hashes/utils.js'
import type { ChoraleError } from '../errors.ts'
import { DEFAULT_SUBNET_PARAMETERS } from '../ledger/subnet-parameters.ts'
import type { Opened } from '../protocol/messages.ts'
import { wireBytes } from '../protocol/wire-dtype.ts'
import type { SpanSession } from '../session/span-runner.ts'
import type { FramedStream } from './framed-stream.ts'
import type { AdmittedOpening } from './opening-guard.ts'
import { createServedReceipts, type ServedReceipts } from './serve-receipts.ts'
import type { SessionLinks } from './session-links.ts'
import { clientError, type ServeContext, type SpanHost } from './span-host.ts'
import { createStepQueue, type StepQueue } from './step-queue.ts'
import { createStepTurns, type StepTurns } from './step-turns.ts'
import { takeSession } from './take-session.ts'

/** A session that was opened: the engine's, whose turn it is, what waits, and its receipts. */
export interface HostedSession {
  readonly hosted: SpanSession
  readonly receipts: ServedReceipts
  readonly turns: StepTurns
  readonly queue: StepQueue
  /** What the client is told. */
  readonly opened: Opened
  /** Takes it off the list of sessions that others may take over, and stops what it takes from others. */
  end(): void
}

export interface HostedSessionOptions {
  readonly context: ServeContext
  /** Who runs it. */
  readonly host: SpanHost
  readonly admitted: AdmittedOpening
  readonly hosted: SpanSession
  readonly wire: FramedStream
  readonly links: SessionLinks
  /** Whether the session ended. */
  readonly over: () => boolean
  /** Whether the client's own stream must not be read now, whatever the queue says. */
  readonly throttled: () => boolean
  /** Ends the session. */
  readonly refuse: (error: ChoraleError) => void
}

const NOTHING = new Uint8Array(0)
/** What a session takes from others is a matter of seconds; clients wait no longer. */
const MAX_ADOPT_MS = 60_000

/** Puts a session's parts together. */
export function createHostedSession(options: HostedSessionOptions): HostedSession {
  const { context, host, admitted, hosted, wire, links, refuse } = options
  const { peer } = context
  const tap = host.tap ?? context.options.tap
  const id = bytesToHex(admitted.opening.session)
  const { maxTokens, dtype } = admitted.opening
  const ended = new AbortController()
  const rowBytes = host.hiddenSize * wireBytes(dtype)
  const numericMode = host.numericMode ?? 'float'
  const turns = createStepTurns({
    maxTokens,
    maxStepTokens: host.maxStepTokens,
    rowBytes,
  })
  const receipts = createServedReceipts({
    identity: peer.identity,
    digest: peer.digest,
    ed25519: peer.ed25519,
    opening: admitted,
    facts: { engine: host.engine, numericMode },
    everyTokens: () => (peer.gate?.parameters ?? DEFAULT_SUBNET_PARAMETERS).receiptTokens,
    post: (make) => wire.post(make),
    store: tap
      ? {
          add: (receipt) => {
            tap.receipt(receipt)
            peer.receipts?.add(receipt)
          },
        }
      : peer.receipts,
    onFate: (fate) => context.metrics.receipt(fate),
    onTrouble: refuse,
  })
  const queue = createStepQueue({
    context,
    hiddenSize: host.hiddenSize,
    hosted,
    dtype,
    wire,
    link: () => links.next,
    dropLink: links.dropNext,
    over: options.over,
    pause: () => [wire, links.feeder].forEach((source) => source?.pause()),
    resume: () => {
      if (!options.throttled()) wire.resume()
      links.feeder?.resume()
    },
    onError: (error) => refuse(clientError(error)),
    onStep: (step, input, output) => {
      receipts.step(step, input, output)
      const { seq, position, tokens } = step
      tap?.step(id, { seq, position, tokens, input, output })
    },
    adopt: async ({ from, position, deadlineMs }, sources) => {
      if (kv === undefined) return { position: from, inputs: undefined, reason: 'not on this server' }
      const { client, modelId, start, end } = admitted.opening
      // Who may be asked for the evidence of a session must have what went into it.
      const inputs = tap?.inputs !== undefined
      return await takeSession(
        context.peer,
        { client, modelId, span: { start, end }, kv, numericMode, rowBytes, inputs },
        sources,
        {
          from,
          to: position,
          until: performance.now() + Math.min(deadlineMs, MAX_ADOPT_MS),
          signal: ended.signal,
        },
      )
    },
    onAdopted: ({ seq, from }, { position, inputs }) => {
      if (position === from) return
      const step = { seq, position: from, tokens: position - from }
      receipts.handed(step, inputs)
      if (inputs) tap?.step(id, { ...step, input: inputs, output: NOTHING })
    },
    onRollback: (message) => {
      receipts.rollback(message)
      const { seq, position } = message
      tap?.step(id, { seq, position, tokens: 0, input: NOTHING, output: NOTHING })
    },
  })
  tap?.open(id, admitted.signed)
  const kv = context.options.handover ? hosted.kv : undefined
  const unlist =
    kv &&
    context.handovers.add({
      opening: admitted.opening,
      hosted,
      kv,
      engine: host.engine,
      numericMode,
      rowBytes,
      inputs: (from, to) => tap?.inputs?.(id, from, to),
      given: 0,
    })
  const opened: Opened = {
    type: 'opened',
    leaseTokens: maxTokens,
    maxStepTokens: host.maxStepTokens,
    hiddenSize: host.hiddenSize,
    dtype,
    engine: host.engine,
    load: { ...host.load(), queued: context.queued },
    ...(kv && { kv: { precision: kv.precision, width: kv.width } }),
  }
  const end = (): void => {
    unlist?.()
    ended.abort()
  }
  return { hosted, receipts, turns, queue, opened, end }
}
