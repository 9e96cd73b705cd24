/**
 * One measurement in a process of its own, so that its memory and threads are its own:
 * `node measure-local.ts '{"model": …, "engine": …, "threads": …}'` prints one JSON line.
 */
import { createEngine, parseEngineName } from '../../../src/engine/select.ts'
import { loadEmbedding } from '../../../src/model/embedding.ts'
import { loadSpans } from '../../../src/session/trace.ts'
import { rows } from '../../../src/tensor/tensor.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { median, roundTo } from './flags.ts'

export interface LocalMeasure {
  readonly model: string
  readonly engine: string
  readonly threads: number
  /** Tokens per second of a prompt of `promptTokens`, head of the last row included. */
  readonly prefillTokS: number
  readonly decodeTokS: number
  readonly loadMs: number
  /** Of the whole process; null where it can't be told. */
  readonly rssMiB: number | null
}

/** What to measure; tokens as counts. */
export interface LocalJob {
  readonly model: string
  readonly engine: string
  readonly threads: number
  readonly promptTokens: number
  readonly decodeTokens: number
  /** Rounds whose median is taken, after one that warms up. */
  readonly rounds: number
}

async function measure(job: LocalJob): Promise<LocalMeasure> {
  const platform = createNodePlatform(stderrLogger('warn'))
  const started = performance.now()
  const model = await openModelArgument(job.model)
  const { engine } = await createEngine(platform, { name: parseEngineName(job.engine), threads: job.threads })
  const { blockCount, vocabSize } = model.spec
  const promptTokens = Math.min(job.promptTokens, model.spec.contextLength - job.decodeTokens)
  const maxTokens = promptTokens + job.decodeTokens
  const [runner] = await loadSpans(engine, model, [{ start: 0, end: blockCount }], maxTokens)
  if (runner === undefined) throw new Error('no span was loaded')
  const head = await engine.loadHead(model)
  const embedding = await loadEmbedding(model)
  const loadMs = performance.now() - started
  const prefills: number[] = []
  const decodes: number[] = []
  for (let round = 0; round <= job.rounds; round++) {
    // Another one each round: pages of a prompt seen before would be shared, not computed.
    const prompt = Array.from(
      { length: promptTokens },
      (_, index) => (index * 97 + round * 131 + 11) % vocabSize,
    )
    const session = await runner.open({ maxTokens })
    let mark = performance.now()
    const hidden = await session.step(embedding.gather(prompt))
    let logits = (await head.logits(rows(hidden, promptTokens - 1, promptTokens))).data
    const prefill = promptTokens / ((performance.now() - mark) / 1000)
    mark = performance.now()
    for (let step = 0; step < job.decodeTokens; step++) {
      const next = logits.reduce((best, value, id) => (value > (logits[best] as number) ? id : best), 0)
      logits = (await head.logits(await session.step(embedding.gather([next])))).data
    }
    const decode = job.decodeTokens / ((performance.now() - mark) / 1000)
    await session.close()
    if (round > 0) {
      prefills.push(prefill)
      decodes.push(decode)
    }
  }
  const rssMiB = Math.round(process.memoryUsage().rss / 2 ** 20)
  await runner.close()
  await head.close()
  await engine.close()
  const result = {
    model: model.name,
    engine: engine.name,
    threads: engine.threads,
    prefillTokS: roundTo(median(prefills), 1),
    decodeTokS: roundTo(median(decodes), 1),
    loadMs: Math.round(loadMs),
    rssMiB,
  }
  await model.close()
  return result
}

process.stdout.write(`${JSON.stringify(await measure(JSON.parse(process.argv[2] ?? '{}') as LocalJob))}\n`)
