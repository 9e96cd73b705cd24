import type { Tensor } from '../tensor/tensor.ts'
import { concatRows, rows } from '../tensor/tensor.ts'
import { adoptHops, inheritHistories, pageStart } from './adopt-hops.ts'
import type { Hop } from './chain-hop.ts'
import { relinkHops } from './chain-links.ts'
import type { ChainContext } from './chain-opening.ts'
import { runThroughHops } from './chain-pipeline.ts'
import type { Handover, PrepareOptions } from './prepare-handover.ts'

export interface CompleteOptions extends Pick<
  PrepareOptions,
  'changes' | 'chunkTokens' | 'window' | 'signal'
> {
  /** Tokens of the session. */
  readonly position: number
  /** The last hop's output for the last token, where it is known [1, hiddenSize]. */
  readonly lastOutput: Tensor | undefined
}

/** The session waits meanwhile. */
const TAIL_MS = 4_000
/** Fewer tokens than these are computed again sooner than fetched. */
const WORTH_TOKENS = 24
/** How far the same numbers may be apart, by the largest: on one engine (other hardware, another order of sums), on two. */
const SAME_ENGINE = 1e-3
const OTHER_ENGINE = 5e-2

/**
 * Brings the fresh hops up to the session's position and puts them in the old ones' place. No step may be under way.
 *
 * Where keys and values were handed over, the last token is computed on the fresh hops all the same, and must come out as it
 * did of the old ones: its attention reads all that was handed over, so a server can hand over nothing but what its own
 * signed outputs came from.
 * @returns `done`; otherwise the fresh hops are closed and the old ones stay, and `unproven` says that a replay may do better.
 */
export async function completeHandover(
  context: ChainContext,
  hops: Hop[],
  handover: Handover,
  options: CompleteOptions,
): Promise<'done' | 'unproven' | 'failed'> {
  const { old, fresh, handed } = handover
  const { position, chunkTokens, window, signal } = options
  const fail = async (): Promise<'unproven' | 'failed'> => {
    await Promise.all(fresh.map((hop) => hop.close()))
    return handed > 0 ? 'unproven' : 'failed'
  }
  const from = hops.indexOf(old[0]!)
  const inPlace = from >= 0 && old.every((hop, i) => hops[from + i] === hop)
  const first = old[0]!
  if (inPlace) await Promise.all(hops.map((hop) => hop.settled()))
  if (!inPlace || first.history.length < position) return await fail()
  const to = from + old.length
  const successor = hops[to]
  // What the old server may not have reported yet is what its successor's history lacks.
  const missing = successor !== undefined && successor.history.length < position
  const expected = successor ? rowOf(successor.history, position) : options.lastOutput
  if (handed > 0 && (position === 0 || expected === undefined)) return await fail()
  const known = await catchUp(handover, missing ? successor.history.length : position, options)
  const reached = missing ? known <= successor.history.length : true
  if (!reached || fresh.some((hop) => hop.failure !== undefined) || first.history.start > known) {
    return await fail()
  }
  await inheritHistories(old, fresh, known)
  const rest = first.history.rows(known, position)
  const want = missing ? 'all' : handed > 0 ? 'last' : 'none'
  const replay = await runThroughHops(fresh, rest, { chunkTokens, window, want, signal })
  if (replay.failure) return await fail()
  const outputs = want === 'none' ? undefined : concatRows(replay.outputs, context.options.model.hiddenSize)
  if (handed > 0 && !isSame(lastRow(outputs!), expected!, marginOf(old, fresh))) {
    context.options.log?.warn('what was handed over is not what the old server computed with', {
      from: old.map(({ server }) => server.peerId).join(' '),
    })
    return await fail()
  }
  if (missing) {
    successor.history.append(rows(outputs!, successor.history.length - known, position - known))
  }
  hops.splice(from, old.length, ...fresh)
  for (const hop of old) void hop.close()
  if (context.options.push !== false) relinkHops(context.links, hops, from, from + fresh.length)
  return 'done'
}

/** Fetches what is not there yet, the last token excepted. @returns the tokens that all fresh hops have. */
async function catchUp(
  { old, fresh, tokens, handed }: Handover,
  limit: number,
  { position, changes, signal }: CompleteOptions,
): Promise<number> {
  const known = Math.min(tokens, changes.unchanged, position)
  if (handed === 0) return known
  const to = Math.min(limit, position - 1)
  const from = pageStart(known)
  if (to - known < WORTH_TOKENS || old.some((hop) => hop.failure !== undefined)) return Math.min(known, to)
  return await adoptHops(old, fresh, { from, to, deadlineMs: TAIL_MS }, signal)
}

function rowOf(history: Hop['history'], position: number): Tensor | undefined {
  return history.length >= position && history.start < position
    ? history.rows(position - 1, position)
    : undefined
}

function lastRow(output: Tensor): Tensor {
  return rows(output, output.shape[0] - 1, output.shape[0])
}

function marginOf(old: readonly Hop[], fresh: readonly Hop[]): number {
  const engine = old[0]!.route.engine
  return [...old, ...fresh].every(({ route }) => route.engine === engine) ? SAME_ENGINE : OTHER_ENGINE
}

/** max |a - b| at most `margin` times max |b|. */
function isSame(actual: Tensor, expected: Tensor, margin: number): boolean {
  let difference = 0
  let largest = 0
  for (let i = 0; i < expected.data.length; i++) {
    difference = Math.max(difference, Math.abs(actual.data[i]! - expected.data[i]!))
    largest = Math.max(largest, Math.abs(expected.data[i]!))
  }
  return difference <= margin * largest
}
