import { readFile, stat } from 'node:fs/promises'
import { Command } from 'commander'
import { createEngine, parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { perplexityOf } from '../../src/session/perplexity.ts'
import { loadSpans } from '../../src/session/trace.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { openModelArgument } from '../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { activationBitsFlag, positiveFlag } from './bench/flags.ts'

/** Largest text read, in bytes: a hundred times what anybody waits for. */
const MAX_TEXT = 16 * 1024 * 1024

/** Longest window without asking: attention grows with its square. */
const DEFAULT_WINDOW = 2048

interface PerplexityOptions {
  engine: string
  threads?: string
  activationBits?: string
  window?: string
  limit?: string
  json?: boolean
}

/** `chorale perplexity`: how well a model on an engine foretells a text; shows what an engine's rounding costs. */
export function perplexityCommand(): Command {
  return new Command('perplexity')
    .description('how well a model foretells a text: e^(mean negative log-likelihood of its tokens)')
    .argument('<model>', 'folder, .gguf file or hub name')
    .argument('<file>', 'a text file')
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--threads <n>', 'CPU threads of the engine')
    .option('--activation-bits <bits>', 'wasm: round activations to 15 bits (the default) or 8')
    .option('--window <n>', `tokens a window (default: the model's context, at most ${DEFAULT_WINDOW})`)
    .option('--limit <n>', "use the text's first n tokens only")
    .option('--json', 'print {"tokens", "perplexity"}')
    .addHelpText(
      'after',
      '\nExample:\n  chorale perplexity models/storyteller story.txt --engine wasm --json',
    )
    .action(runPerplexity)
}

async function runPerplexity(reference: string, file: string, options: PerplexityOptions): Promise<void> {
  const engineName = parseEngineName(options.engine)
  const threads = options.threads === undefined ? undefined : positiveFlag(options.threads, 'threads')
  const activationBits =
    options.activationBits === undefined ? undefined : activationBitsFlag(options.activationBits)
  const text = await readText(file)
  const model = await openModelArgument(reference)
  try {
    const window = windowOf(model, options.window)
    const all = await encode(model, text)
    const ids = options.limit === undefined ? all : all.slice(0, positiveFlag(options.limit, 'limit'))
    const { engine } = await createEngine(createNodePlatform(stderrLogger('warn')), {
      name: engineName,
      ...(threads === undefined ? {} : { threads }),
      ...(activationBits === undefined ? {} : { activationBits }),
    })
    try {
      const client = { embedding: await loadEmbedding(model), head: await engine.loadHead(model) }
      const blocks = { start: 0, end: model.spec.blockCount }
      const [runner] = await loadSpans(engine, model, [blocks], Math.min(window, Math.max(ids.length, 1)))
      if (runner === undefined) throw new ChoraleError('internal', 'no span was loaded')
      try {
        const fit = await perplexityOf(client, runner, ids, window)
        process.stdout.write(
          options.json === true
            ? `${JSON.stringify(fit)}\n`
            : `perplexity ${fit.perplexity.toFixed(4)} over ${fit.tokens} tokens (${model.name}, ${engine.name})\n`,
        )
      } finally {
        await runner.close()
        await client.head.close()
      }
    } finally {
      await engine.close()
    }
  } finally {
    await model.close()
  }
}

/** @throws `bad_config` for a window that is none or longer than the model's context. */
function windowOf(model: Model, flag: string | undefined): number {
  const { contextLength } = model.spec
  if (flag === undefined) return Math.min(contextLength, DEFAULT_WINDOW)
  const window = positiveFlag(flag, 'window')
  if (window >= 2 && window <= contextLength) return window
  throw new ChoraleError(
    'bad_config',
    `--window ${window}: ${model.name} takes 2 to ${contextLength} tokens at once`,
    { field: 'window' },
  )
}

async function encode(model: Model, text: string): Promise<number[]> {
  const files = await model.tokenizerFiles()
  if (files === undefined) {
    throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
  }
  return createTokenizer(files, model.spec).encode(text)
}

/** @throws `not_found`, `limit`. */
async function readText(file: string): Promise<string> {
  const size = await stat(file).then(
    (entry) => entry.size,
    () => {
      throw new ChoraleError('not_found', `no file at ${file}`, { field: 'file' })
    },
  )
  if (size > MAX_TEXT) {
    throw new ChoraleError('limit', `${file} has ${size} bytes, the most read is ${MAX_TEXT}; cut it`, {
      field: 'file',
    })
  }
  return await readFile(file, 'utf8')
}
