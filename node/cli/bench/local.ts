import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Command } from 'commander'
import { describeGpu } from '../../../src/engine/select.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { collectModel, positiveFlag } from './flags.ts'
import { installLlamaCpp } from './llama-cpp.ts'
import type { LocalJob, LocalMeasure } from './measure-local.ts'
import { benchModels } from './models.ts'
import type { Installed } from './rival-package.ts'
import { installWllama } from './wllama.ts'

interface LocalOptions {
  model: string[]
  engine: string
  threads: string
  rounds: string
  json?: boolean
}

/** Rivals read GGUF files and run as scripts of their own: `node SCRIPT FOLDER JOB`. */
const RIVALS: Readonly<
  Record<string, { readonly script: string; readonly install: () => Promise<Installed> }>
> = {
  'llama.cpp': { script: 'llama-cpp.ts', install: installLlamaCpp },
  wllama: { script: 'wllama.ts', install: installWllama },
}

interface Skipped {
  readonly model: string
  readonly engine: string
  readonly skipped: string
}

const PROMPT_TOKENS = 300
const DECODE_TOKENS = 64
const MEASURE_LIMIT_MS = 300_000

/** `chorale bench local`: prefill and decode speed of each engine in one process, next to native llama.cpp and wllama. */
export function localBenchCommand(): Command {
  return new Command('local')
    .description(
      'tokens per second of each engine on this machine, without a network, next to llama.cpp and wllama',
    )
    .option(
      '--model <model>',
      'model to measure; repeatable (default: the bundled one and SmolLM2 where it is found)',
      collectModel,
      [],
    )
    .option('--engine <names>', 'engines, separated by commas', 'wasm,onnx,wgsl,llama.cpp,wllama')
    .option('--threads <counts>', 'CPU threads to try, separated by commas', '1,2')
    .option('--rounds <n>', 'rounds whose median is taken', '3')
    .option('--json', 'print one JSON document')
    .action(runLocalBench)
}

async function runLocalBench(options: LocalOptions): Promise<void> {
  const results: LocalMeasure[] = []
  const skipped: Skipped[] = []
  const threads = options.threads.split(',').map((part) => positiveFlag(part, 'threads'))
  const rounds = positiveFlag(options.rounds, 'rounds')
  const engines = options.engine.split(',').map((part) => part.trim())
  for (const model of await benchModels(options.model)) {
    for (const engine of engines) {
      const reason = await whyNot(engine, model, options)
      if (reason !== undefined) {
        skipped.push({ model, engine, skipped: reason })
        process.stderr.write(`skip ${model} ${engine}: ${reason}\n`)
        continue
      }
      for (const count of engine === 'wgsl' || engine === 'reference' ? [1] : threads) {
        const job = {
          model,
          engine,
          threads: count,
          promptTokens: PROMPT_TOKENS,
          decodeTokens: DECODE_TOKENS,
          rounds,
        }
        const result = await runJob(job)
        results.push(result)
        process.stderr.write(`${describe(result)}\n`)
      }
    }
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify({ results, skipped }, undefined, 1)}\n`)
  else for (const result of results) process.stdout.write(`${describe(result)}\n`)
}

async function runJob(job: LocalJob): Promise<LocalMeasure> {
  const script = (name: string) => join(import.meta.dirname, name)
  const args = [script('measure-local.ts'), JSON.stringify(job)]
  const rival = RIVALS[job.engine]
  if (rival !== undefined) {
    const installed = await rival.install()
    if ('reason' in installed) throw new ChoraleError('not_found', installed.reason)
    args.splice(0, 1, script(rival.script), installed.folder)
  }
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    timeout: MEASURE_LIMIT_MS,
    maxBuffer: 2 ** 20,
  })
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as LocalMeasure
}

/** Why an engine is not measured here, or undefined. */
async function whyNot(engine: string, model: string, options: LocalOptions): Promise<string | undefined> {
  const rival = RIVALS[engine]
  if (rival !== undefined) {
    if (!model.endsWith('.gguf')) return `${engine} reads .gguf files only`
    const installed = await rival.install()
    return 'reason' in installed ? installed.reason : undefined
  }
  if (engine === 'wgsl' && options.engine !== 'wgsl') {
    const gpu = await describeGpu(createNodePlatform(stderrLogger('error')))
    return gpu.usable ? undefined : `${gpu.why}; --engine wgsl alone measures it all the same`
  }
  return undefined
}

function describe(result: LocalMeasure): string {
  const threads = result.threads === 0 ? 'GPU' : `${result.threads} thread${result.threads === 1 ? '' : 's'}`
  const speeds = `prefill ${result.prefillTokS} tok/s, decode ${result.decodeTokS} tok/s`
  return `${result.model} ${result.engine} ${threads}: ${speeds}, ready in ${result.loadMs} ms, ${result.rssMiB ?? '?'} MiB`
}
