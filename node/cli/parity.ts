import { Command } from 'commander'
import { createEngine, ENGINE_NAMES, parseEngineName } from '../../src/engine/select.ts'
import type { EngineName } from '../../src/engine/engine.ts'
import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { compareWithReference, type ParityResult } from './parity/compare.ts'
import { findReferenceFolders, readReference } from './parity/reference-folder.ts'
import {
  asTransformers,
  parseAttention,
  type TransformersAttention,
} from './parity/transformers-attention.ts'
import { openModelArgument } from '../open-model-argument.ts'

interface ParityOptions {
  engine: string
  attention: string
  json?: boolean
}

/** `chorale parity`: proves that an engine computes what Hugging Face transformers computes. */
export function parityCommand(): Command {
  return new Command('parity')
    .description("compare engines with a model folder's reference activations")
    .argument(
      '<dir>',
      'a folder with config.json, model.safetensors and reference.safetensors, or a folder of such folders',
    )
    .option('--engine <names>', 'engines, separated by commas, or all', 'all')
    .option('--attention <kind>', 'transformers attention the references were made with', 'eager')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  chorale parity test/vectors --engine reference,onnx,wgsl')
    .action(runParity)
}

async function runParity(directory: string, options: ParityOptions): Promise<void> {
  const engines = parseEngines(options.engine)
  const attention = parseAttention(options.attention)
  const folders = await findReferenceFolders(directory)
  const results: ParityResult[] = []
  for (const folder of folders) {
    for (const engine of engines) {
      const result = await parityOf(folder, engine, attention)
      results.push(result)
      if (options.json !== true) process.stdout.write(`${describe(result)}\n`)
      else process.stderr.write(`${describe(result)}\n`)
    }
  }
  const ok = results.every(passed) && results.some((result) => result.skipped === null)
  if (options.json === true) process.stdout.write(`${JSON.stringify({ ok, results }, undefined, 1)}\n`)
  else
    process.stdout.write(
      `${ok ? 'ok' : 'FAILED'}: ${results.filter((result) => result.skipped === null).length} compared\n`,
    )
  if (!ok) process.exitCode = 1
}

async function parityOf(
  folder: string,
  name: EngineName,
  attention: TransformersAttention,
): Promise<ParityResult> {
  const platform = createNodePlatform(stderrLogger('error'))
  const skip = (reason: string): ParityResult => ({
    model: folder,
    engine: name,
    dtype: 'f32',
    maxRelativeError: {},
    greedyEqual: null,
    splitsEqual: null,
    chainEqual: null,
    skipped: reason,
  })
  const reference = await readReference(folder)
  let model
  try {
    model = asTransformers(await openModelArgument(folder), attention)
  } catch (error) {
    if (error instanceof ChoraleError && error.code === 'not_supported') return skip(error.message)
    throw error
  }
  let engine
  try {
    engine = (await createEngine(platform, { name, allowSoftware: true })).engine
  } catch (error) {
    await model.close()
    if (error instanceof ChoraleError && error.code === 'engine') return skip(errorMessage(error))
    throw error
  }
  try {
    return { ...(await compareWithReference(model, engine, reference)), model: folder }
  } catch (error) {
    if (error instanceof ChoraleError && error.code === 'not_supported') return skip(error.message)
    throw error
  } finally {
    await engine.close()
    await model.close()
  }
}

/** Tolerance of float32 engines: max |a - b| / max |b| of a tensor. */
const F32_TOLERANCE = 1e-4

/** A result fails when an error is over the tolerance or anything differs that must be equal; skipped ones don't. */
function passed(result: ParityResult): boolean {
  if (result.skipped !== null) return true
  const close = Object.values(result.maxRelativeError).every((error) => error <= F32_TOLERANCE)
  return close && result.greedyEqual === true && result.splitsEqual === true && result.chainEqual === true
}

function describe(result: ParityResult): string {
  const name = `${result.model} ${result.engine}`
  if (result.skipped !== null) return `skip ${name}: ${result.skipped}`
  const worst = Object.entries(result.maxRelativeError).reduce((a, b) => (b[1] > a[1] ? b : a))
  const flags = `greedy ${yes(result.greedyEqual)}, splits ${yes(result.splitsEqual)}, chain ${yes(result.chainEqual)}`
  return `${passed(result) ? 'ok  ' : 'FAIL'} ${name}: largest error ${worst[1].toExponential(2)} (${worst[0]}); ${flags}`
}

function yes(equal: boolean | null): string {
  return equal === true ? 'equal' : 'DIFFERENT'
}

function parseEngines(text: string): EngineName[] {
  if (text === 'all') return [...ENGINE_NAMES]
  return text.split(',').map((part) => {
    const name = parseEngineName(part.trim())
    if (name === 'auto')
      throw new ChoraleError('bad_config', '--engine auto is no engine; name them or say all', {
        field: 'engine',
      })
    return name
  })
}
