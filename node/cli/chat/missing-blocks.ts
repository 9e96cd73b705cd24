import { ChoraleError } from '../../../src/errors.ts'
import { blockRanges } from '../../../src/routing/no-chain.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import type { NetworkModel } from '../../../src/session/network-models.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import { printable } from '../terminal.ts'

export interface MissingBlocksOptions {
  readonly languageModel: Pick<LanguageModel, 'model' | 'readiness'>
  /** What the user called the model. */
  readonly reference: string
  readonly networkModels: () => Promise<readonly NetworkModel[]>
  /** For the command that serves what is missing. */
  readonly bootstrap: readonly string[]
  /** Wait so long without asking. */
  readonly waitMs: number | undefined
  /** Asks the person at the terminal for a line, undefined at its end; undefined where there is nobody. */
  readonly question: ((prompt: string) => Promise<string | undefined>) | undefined
  readonly note: (line: string) => void
  /** Shows how long it has waited; undefined takes it away. */
  readonly progress: (text: string | undefined) => void
  readonly signal: AbortSignal
  /** Milliseconds, any origin. */
  readonly now?: () => number
  readonly lookMs?: number
}

/** What a chat does next. */
export type AfterMissing =
  | { readonly kind: 'ready' }
  /** Open this model instead. */
  | { readonly kind: 'other'; readonly model: NetworkModel }
  | { readonly kind: 'leave' }

const LOOK_MS = 1_000
/** A client that has just joined does not see everybody at once. */
const GRACE_MS = 1_500
const GRACE_LOOK_MS = 100

/**
 * Where a model is short of blocks: says which, and waits, or asks whether to wait, to take another model that is complete,
 * or to serve them. @throws `no_chain` naming the blocks when there is nobody to ask or the wait is over, `cancelled`.
 */
export async function settleMissingBlocks(options: MissingBlocksOptions): Promise<AfterMissing> {
  const { languageModel, question, note, waitMs } = options
  const grace = waitMs ?? GRACE_MS
  const look = Math.min(grace, GRACE_MS)
  let missing = await waitUntilServed(options, look, GRACE_LOOK_MS)
  if (missing !== undefined && waitMs !== undefined) {
    note(missingWords(languageModel.model.name, missing))
    missing = await waitUntilServed(options, waitMs - look, options.lookMs ?? LOOK_MS, options.progress)
  }
  if (missing === undefined) return { kind: 'ready' }
  const complete = await completeModels(options)
  if (question === undefined || waitMs !== undefined) throw missingError(options, missing, complete)
  for (;;) {
    note(missingWords(languageModel.model.name, missing))
    note('  w  wait until somebody serves them (Ctrl-C leaves)')
    for (const [i, { model, weakest }] of complete.entries()) {
      const servers = weakest?.servers ?? 0
      note(
        `  ${i + 1}  chat with ${printable(model.name)} instead: every block has ${servers} server${servers === 1 ? '' : 's'} or more`,
      )
    }
    note('  s  show the command that serves them on this machine')
    note('  q  leave')
    const answer = (await question('> '))?.trim().toLowerCase()
    if (answer === undefined || answer === 'q') return { kind: 'leave' }
    const other = /^\d{1,3}$/.test(answer) ? complete[Number(answer) - 1] : undefined
    if (other !== undefined) return { kind: 'other', model: other }
    if (answer === 's') note(`  in another terminal: ${serveCommand(options, missing)}`)
    if (answer !== 'w' && answer !== 's') note(`"${printable(answer.slice(0, 20))}" is none of these`)
    const still = await waitUntilServed(
      options,
      answer === 'w' ? Number.POSITIVE_INFINITY : 0,
      options.lookMs ?? LOOK_MS,
      options.progress,
    )
    if (still === undefined) return { kind: 'ready' }
    missing = still
  }
}

/** Looks until every block has a server, or the time is over. @returns what is missing then. @throws `cancelled`. */
async function waitUntilServed(
  { languageModel, signal, now = () => performance.now() }: MissingBlocksOptions,
  ms: number,
  lookMs: number,
  progress?: (text: string | undefined) => void,
): Promise<readonly Span[] | undefined> {
  const started = now()
  try {
    for (;;) {
      if (signal.aborted) throw new ChoraleError('cancelled', 'the wait for servers was cancelled')
      const { ready, missing } = await languageModel.readiness()
      if (ready) return undefined
      const waited = now() - started
      if (waited >= ms) return missing
      const limit = Number.isFinite(ms) ? ` of ${Math.round(ms / 1000)} s` : ' s'
      progress?.(`waiting for blocks ${blockRanges(missing)}: ${Math.round(waited / 1000)}${limit}`)
      await pause(Math.min(lookMs, ms - waited), signal)
    }
  } finally {
    progress?.(undefined)
  }
}

async function completeModels({
  languageModel,
  networkModels,
}: MissingBlocksOptions): Promise<readonly NetworkModel[]> {
  const models = await networkModels().catch(() => [])
  return models.filter(({ complete, model }) => complete && model.modelId !== languageModel.model.id)
}

function missingWords(name: string, missing: readonly Span[]): string {
  return missing.length === 0
    ? `every block of ${name} has a server, but their spans don't meet`
    : `no server holds blocks ${blockRanges(missing)} of ${name}`
}

function serveCommand({ bootstrap, reference }: MissingBlocksOptions, missing: readonly Span[]): string {
  const [first] = missing
  const blocks = first === undefined ? '' : ` --blocks ${first.start}:${first.end}`
  const way = bootstrap.length === 0 ? '' : ` --bootstrap ${bootstrap.join(' ')}`
  return `chorale serve ${reference}${blocks}${way}`
}

function missingError(
  options: MissingBlocksOptions,
  missing: readonly Span[],
  complete: readonly NetworkModel[],
): ChoraleError {
  const others = complete.map(({ model }) => printable(model.name)).join(', ')
  const wait = options.waitMs === undefined ? 'wait with --wait SECONDS, or serve' : 'serve'
  const words = [
    missingWords(options.languageModel.model.name, missing),
    `${wait} them: ${serveCommand(options, missing)}`,
    others === '' ? 'no other model of this network is complete' : `complete in this network: ${others}`,
  ]
  return new ChoraleError('no_chain', words.join('; '), { field: blockRanges(missing) })
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
