import { ChoraleError } from '../../../src/errors.ts'
import type { SamplingOptions } from '../../../src/sampling/options.ts'
import type { DraftWish } from '../../../src/session/draft-laps.ts'
import type { GenerateDone, LanguageModel } from '../../../src/session/language-model.ts'
import { median, positiveFlag } from './flags.ts'

/** `repeats`: the answer repeats its prompt, as an edit or a summary does; `story`: it goes its own way. */
export type TextKind = 'repeats' | 'story'
/** Whether guesses of the next tokens travel along: none, what the text holds (true), a draft model's as well. */
export type DraftsShown = boolean | 'model'

/** How one text is measured. */
export interface TextPlan {
  readonly text: TextKind
  readonly promptIds: readonly number[]
  /** A round beforehand that is not counted. */
  readonly warm: boolean
  readonly tokens: string
  readonly rounds: string
  readonly temperature: number
  readonly hasDraft: boolean
  readonly signal: AbortSignal
}

const PROMPT_TOKENS = 300
const QUESTION = 'Tell me a story about a brave cat.'
const STORY = [
  'Once upon a time there was a small fox who lived near a river. Every morning he went to the water to see the fish.',
  'One day a bear came to the forest. The bear was old and sad, because he had lost his way. The fox said hello and asked him where he came from.',
  'The bear told him about a high mountain with snow, about a cave full of honey and about his brother, who was waiting for him.',
  'So the two friends took some bread and apples and began to walk. They crossed a bridge, they slept under a tree, and they sang when it rained.',
  'A bird showed them the path between the stones. In the evening they saw a light far away. It was a house, and an old woman opened the door.',
  'She gave them warm soup and asked what they were looking for. When they had told her everything, she smiled and took a map out of a box.',
  'The map was made of paper and very old. It showed the mountain, a lake with an island, and a secret door behind a waterfall.',
  'Early the next day they thanked her and left. The sun was bright, the grass was wet, and the fox was the first to hear the water.',
].join(' ')
/** What a client is asked for where its row is called that. */
const WISHES: ReadonlyMap<DraftsShown, DraftWish> = new Map<DraftsShown, DraftWish>([
  [false, false],
  [true, 'lookup'],
  ['model', true],
])

/** Answers without drafts and with each kind of them in turn. @throws `internal` when their tokens ever differ. */
export async function measureText(
  chain: LanguageModel,
  plan: TextPlan,
  expected: Map<TextKind, string>,
): Promise<Map<DraftsShown, Run>> {
  const { text, promptIds, warm, temperature, signal } = plan
  const tokens = positiveFlag(plan.tokens, 'tokens')
  const sampling = temperature > 0 ? { temperature, topP: 0.95, seed: 7 } : {}
  const wishes = [...WISHES].filter(([shown]) => shown !== 'model' || plan.hasDraft)
  const runs = new Map(wishes.map(([shown]) => [shown, [] as Run[]]))
  for (let round = warm ? -1 : 0; round < positiveFlag(plan.rounds, 'rounds'); round++) {
    for (const [shown, drafts] of wishes) {
      signal.throwIfAborted()
      const run = await answer(chain, { promptIds, tokens, drafts, sampling, signal })
      const ids = run.ids.join()
      if (ids !== (expected.get(text) ?? ids)) {
        throw new ChoraleError('internal', `the tokens differ with drafts ${shown}`)
      }
      expected.set(text, ids)
      if (round >= 0) runs.get(shown)?.push(run)
    }
  }
  return new Map([...runs].map(([shown, all]) => [shown, middle(all)]))
}

/** What one answer took. */
export interface Run {
  readonly ids: readonly number[]
  readonly tokS: number
  readonly lapMs: number
  readonly firstMs: number
  readonly acceptedPerLap: number
}

async function answer(
  chain: LanguageModel,
  request: {
    readonly promptIds: readonly number[]
    readonly tokens: number
    readonly drafts: DraftWish
    readonly sampling?: SamplingOptions
    readonly signal: AbortSignal
  },
): Promise<Run> {
  const { promptIds, tokens, drafts, sampling = {}, signal } = request
  const ids: number[] = []
  let done: GenerateDone | undefined
  const wanted = { promptIds, maxTokens: tokens + 1, ignoreEos: true }
  const events = chain.generate({ ...wanted, sampling, drafts, signal })
  for await (const event of events) {
    if (event.type === 'token') ids.push(event.token.id)
    else if (event.type === 'done') done = event
  }
  if (done === undefined || done.finishReason === 'cancelled') {
    throw new ChoraleError('cancelled', 'interrupted')
  }
  const { decodeMs, firstTokenMs } = done.timings
  const laps = done.drafts?.laps ?? tokens
  return {
    ids,
    tokS: tokens / (decodeMs / 1_000),
    lapMs: decodeMs / tokens,
    firstMs: firstTokenMs,
    acceptedPerLap: done.drafts ? done.drafts.accepted / laps : 0,
  }
}

/**
 * Prompts of 300 tokens: a story that goes on, and a talk in which somebody asks for the same story again, so that
 * the answer repeats the prompt.
 */
export async function prompts(
  chain: LanguageModel,
  signal: AbortSignal,
): Promise<Record<TextKind, number[]>> {
  const { tokenizer } = chain
  const story = tokenizer.encode(STORY)
  while (story.length < PROMPT_TOKENS) story.push(...story)
  const question = tokenizer.hasChatTemplate
    ? tokenizer.encodeChat([{ role: 'user', content: QUESTION }], { addGenerationPrompt: true })
    : tokenizer.encode(`${QUESTION}\n`)
  const tokens = PROMPT_TOKENS - 2 * question.length
  const told = await answer(chain, { promptIds: question, tokens, drafts: false, signal })
  return {
    story: story.slice(story.length - PROMPT_TOKENS),
    repeats: [...question, ...told.ids.slice(0, tokens), ...question],
  }
}

/** The run of middle speed. */
function middle(runs: readonly Run[]): Run {
  const tokS = median(runs.map((run) => run.tokS))
  const run = runs.find((one) => one.tokS === tokS) ?? runs[0]!
  return { ...run, firstMs: median(runs.map((one) => one.firstMs)) }
}
