import type { SamplingOptions } from '../sampling/options.ts'
import type { DraftModel } from './draft-model.ts'
import { createDraftWindow, type Plan } from './draft-window.ts'
import type { Drafter } from './drafter.ts'
import { createPromptLookup } from './prompt-lookup.ts'

/** Who guesses: everybody there is, or one of them. */
export type DraftWish = boolean | 'lookup' | 'model'

/** What guessing gave in one answer. */
export interface DraftStats {
  /** Laps after the prompt. */
  readonly laps: number
  readonly proposed: number
  readonly accepted: number
  /** Of those, the draft model's. */
  readonly model?: { readonly proposed: number; readonly accepted: number }
}

/** The guesses of one answer, lap by lap. */
export interface DraftLaps {
  readonly stats: DraftStats
  /** Adds a token of the answer. */
  append(id: number): void
  /** The prompt is through: it took `ms` for `rows` rows. */
  begin(ms: number, rows: number): void
  /** Guesses to send with the next lap, at most `limit`; none when they would not pay. */
  next(limit: number): Promise<readonly number[]>
  /** The lap is on its way: who guesses by computing goes on meanwhile. */
  started(): void
  /** The lap took `ms`, and the first `right` guesses were right. */
  ended(ms: number, right: number): void
  close(): Promise<void>
}

export interface DraftLapsOptions {
  readonly wish: DraftWish
  readonly promptIds: readonly number[]
  readonly sampling: SamplingOptions
  /** Tokens of prompt and answer at most. */
  readonly maxTokens: number
  /** Nothing is guessed behind these. */
  readonly ends: ReadonlySet<number>
  readonly model?: DraftModel | undefined
  readonly clock: () => number
}

/**
 * Prompt lookup where the text repeats itself, else the draft model, where there is one; of both the one that
 * promises more. Undefined when nobody is to guess.
 */
export function createDraftLaps(options: DraftLapsOptions): DraftLaps | undefined {
  const { wish, model, clock } = options
  const lookup = wish === true || wish === 'lookup' ? createPromptLookup(options.promptIds) : undefined
  const small = (wish === true || wish === 'model') && model ? model.follow(options) : undefined
  // The first of equals is taken: looking up costs nothing.
  const drafters = [lookup, small].filter((drafter): drafter is Drafter => drafter !== undefined)
  if (drafters.length === 0) return undefined
  const memory = small && model?.memory
  let window = createDraftWindow(memory && { memory })
  const stats = { laps: 0, proposed: 0, accepted: 0 }
  const ofModel = { proposed: 0, accepted: 0 }
  /** Whose guesses are on their way. */
  let sent: { drafter: Drafter | undefined; kind: number; guesses: number; makingMs: number } = NOTHING
  /** Whether the draft model is worth its computing now. */
  let wanted = false
  /** Whether it computed while the lap was under way. */
  let disturbed = false

  return {
    get stats() {
      return { ...stats, ...(small && { model: { ...ofModel } }) }
    },
    append(id) {
      for (const drafter of drafters) drafter.append(id)
    },
    begin(ms, rows) {
      window = createDraftWindow({ rowMs: ms / Math.max(1, rows), ...(memory && { memory }) })
    },
    async next(limit) {
      const startedAt = clock()
      sent = NOTHING
      wanted = false
      if (window.due()) {
        await small?.make(0)
        return []
      }
      let best: { drafter: Drafter; kind: number; plan: Plan } | undefined
      for (const drafter of drafters) {
        const outlook = drafter.outlook()
        if (outlook === undefined) continue
        const plan = window.plan(outlook, limit)
        if (drafter === small) wanted = plan.prepare || plan.guesses > 0
        if (plan.guesses > 0 && plan.speed > (best?.plan.speed ?? -1))
          best = { drafter, kind: outlook.kind, plan }
      }
      if (best === undefined) return []
      const guesses = await best.drafter.make(best.plan.guesses)
      sent = { ...best, guesses: guesses.length, makingMs: clock() - startedAt }
      return guesses
    },
    started() {
      if (!small?.prepare) return
      // Its own guesses and the token after them are confirmed by the lap, if it is right; then come the next ones.
      const ahead = sent.drafter === small ? Math.min(window.depth(sent.kind), 2 * sent.guesses + 1) : 1
      small.prepare(wanted ? ahead : 0)
      disturbed = small.busy === true
    },
    ended(ms, right) {
      const { drafter, kind, guesses, makingMs } = sent
      // What a lap takes without guesses is measured while nothing else computes here.
      if (guesses > 0 || !disturbed) window.note({ ms, makingMs, kind, guesses, right })
      stats.laps++
      stats.proposed += guesses
      stats.accepted += right
      if (drafter !== small || small === undefined) return
      ofModel.proposed += guesses
      ofModel.accepted += right
    },
    async close() {
      for (const drafter of drafters) await drafter.close?.()
    },
  }
}

const NOTHING = { drafter: undefined, kind: 0, guesses: 0, makingMs: 0 }
