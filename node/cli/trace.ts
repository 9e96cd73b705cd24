import { open, type FileHandle } from 'node:fs/promises'
import { Command } from 'commander'
import { createEngine, parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { writeSafetensors, type NamedTensor } from '../../src/model/safetensors-writer.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { loadSpans, parseSplit, traceInside, traceThrough, type Trace } from '../../src/session/trace.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { openModelArgument } from '../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { asTransformers, parseAttention } from './parity/transformers-attention.ts'

interface TraceOptions {
  ids: string
  decode: string
  engine: string
  attention: string
  blocks?: string
  out: string
  json?: boolean
}

/** `chorale trace`: writes what an engine computes, in the layout of a reference file, to compare it elsewhere. */
export function traceCommand(): Command {
  return new Command('trace')
    .description("write a model's activations to a safetensors file, for whoever adds a family or an engine")
    .argument('<model>', 'folder, .gguf file or hub name')
    .requiredOption('--ids <ids>', 'prompt token ids, e.g. 5,6,7')
    .option('--decode <n>', 'greedy steps after the prompt', '0')
    .option('--engine <name>', ENGINE_CHOICES, 'reference')
    .option('--attention <kind>', 'as transformers computes with eager or sdpa attention', 'eager')
    .option('--blocks <split>', 'spans to cut the model into, e.g. 0:2,2:5 (default: one span)')
    .requiredOption(
      '--out <file>',
      'where to write hidden.0 … hidden.L, final, logits, decode_ids, decode_logits',
    )
    .option('--json', 'print a summary as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  chorale trace models/storyteller --ids 5,6,7 --decode 12 --engine onnx --out trace.safetensors',
    )
    .action(runTrace)
}

async function runTrace(reference: string, options: TraceOptions): Promise<void> {
  const platform = createNodePlatform(stderrLogger('warn'))
  const ids = parseIds(options.ids)
  const decode = parseCount(options.decode, 'decode')
  const engineName = parseEngineName(options.engine)
  const attention = parseAttention(options.attention)
  const model = asTransformers(await openModelArgument(reference), attention)
  let file: FileHandle | undefined
  try {
    if (ids.length + decode > model.spec.contextLength) {
      throw new ChoraleError(
        'context_length',
        `${ids.length} ids and ${decode} steps do not fit the model's context of ${model.spec.contextLength} tokens`,
      )
    }
    const split = parseSplit(options.blocks ?? `0:${model.spec.blockCount}`, model.spec.blockCount)
    // Before minutes of computing: the file may not be writable.
    file = await openForWriting(options.out)
    const { engine, why } = await createEngine(platform, { name: engineName })
    try {
      const tensors = traceTensors(ids, await fullTrace(engine, model, split, ids, decode))
      await file.writeFile(writeSafetensors(tensors))
      const summary = {
        model: model.id,
        engine: engine.name,
        blocks: split,
        tokens: ids.length,
        decode,
        out: options.out,
      }
      process.stdout.write(
        options.json === true
          ? `${JSON.stringify(summary)}\n`
          : `${options.out}: ${tensors.length} tensors of ${model.name} on ${engine.name} (${why})\n`,
      )
    } finally {
      await engine.close()
    }
  } finally {
    await file?.close()
    await model.close()
  }
}

async function openForWriting(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'w')
  } catch (error) {
    throw new ChoraleError('bad_config', `--out ${path} can't be written: ${errorMessage(error)}`, {
      field: 'out',
    })
  }
}

/** The trace through `split`, with the hidden states inside each span added. */
export async function fullTrace(
  engine: Engine,
  model: Model,
  split: readonly Span[],
  ids: readonly number[],
  decode: number,
): Promise<Trace> {
  const embedding = await loadEmbedding(model)
  const head = await engine.loadHead(model)
  const runners = await loadSpans(engine, model, split, ids.length + Math.max(decode, 1))
  let trace: Trace
  try {
    trace = await traceThrough({ embedding, head }, runners, ids, decode)
  } finally {
    await Promise.all(runners.map((runner) => runner.close()))
    await head.close()
  }
  const hidden = new Map(trace.hidden)
  for (const span of split) {
    const input = hidden.get(span.start) as Tensor
    for (const [block, states] of await traceInside(engine, model, span, input)) hidden.set(block, states)
  }
  return { ...trace, hidden }
}

function traceTensors(ids: readonly number[], trace: Trace): NamedTensor[] {
  const floats = (name: string, { shape, data }: Tensor): NamedTensor => ({ name, dtype: 'F32', shape, data })
  const integers = (name: string, values: readonly number[]): NamedTensor => ({
    name,
    dtype: 'I32',
    shape: [values.length],
    data: Int32Array.from(values),
  })
  const hidden = [...trace.hidden]
    .sort(([a], [b]) => a - b)
    .map(([block, states]) => floats(`hidden.${block}`, states))
  return [
    integers('input_ids', ids),
    ...hidden,
    floats('final', trace.final),
    floats('logits', trace.logits),
    integers('decode_ids', trace.decodeIds),
    floats('decode_logits', trace.decodeLogits),
  ]
}

function parseIds(text: string): number[] {
  return text.split(',').map((part) => {
    if (!/^\s*\d{1,9}\s*$/.test(part)) {
      throw new ChoraleError(
        'bad_config',
        `--ids: ${JSON.stringify(part)} is not a token id; write e.g. --ids 5,6,7`,
        { field: 'ids' },
      )
    }
    return Number(part)
  })
}

function parseCount(text: string, field: string): number {
  if (!/^\d{1,6}$/.test(text))
    throw new ChoraleError('bad_config', `--${field} ${JSON.stringify(text)} is not a count`, { field })
  return Number(text)
}
