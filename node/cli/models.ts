import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { weighModel } from '../../src/model/describe-model.ts'
import { isJsonObject } from '../../src/model/json.ts'
import type { TokenizerFiles } from '../../src/model/model.ts'
import { kvBytesPerToken, type ModelSpec } from '../../src/model/spec.ts'
import { cachedModels, removeCachedModel } from '../../src/store/cached-models.ts'
import { peerModels, removePeerModel } from '../../src/store/peer-models.ts'
import { pullModel } from '../../src/store/pull-model.ts'
import { locateModel, type ModelPorts, openHub, resolveModel } from '../../src/store/resolve-model.ts'
import type { QuantisedDtype } from '../../src/tensor/quantize.ts'
import { localFolder } from '../../src/model/model-folder.ts'
import { BUNDLED_MODEL, createModelPorts } from '../model-ports.ts'
import { catchInterrupt } from './chat/interrupt.ts'
import { quantizeModel } from './models/quantize.ts'
import { askYes, createProgress, formatBytes } from './terminal.ts'

interface Options {
  readonly json?: boolean
  readonly revision?: string
  readonly yes?: boolean
}

interface QuantizeFlags extends Options {
  readonly bits: string
  readonly out: string
  readonly symmetric?: boolean
}

const EXAMPLES = `
Examples:
  chorale models list
  chorale models show ${BUNDLED_MODEL}
  chorale models pull HuggingFaceTB/SmolLM2-135M-Instruct
  chorale models quantize HuggingFaceTB/SmolLM2-135M-Instruct --bits 4 --out smollm2-q4
  chorale models rm HuggingFaceTB/SmolLM2-135M-Instruct --yes

MODEL is a bundled name, a folder in Hugging Face layout, a .gguf file, org/repo or org/repo/file.gguf of the hub.
HF_ENDPOINT names another hub, HF_TOKEN opens gated models, XDG_CACHE_HOME moves the cache.`

/** `chorale models`: what models this machine has and what they are. */
export function modelsCommand(ports: () => ModelPorts = createModelPorts): Command {
  const models = new Command('models').description('list, show, pull and remove models')
  models.addHelpText('after', EXAMPLES)
  const json = ['--json', 'print one JSON document'] as const
  const revision = ['--revision <name>', 'branch, tag or commit of a hub model (default: main)'] as const
  models
    .command('list')
    .description('bundled models, and those of a hub or of peers in the cache')
    .option(...json)
    .action(async (options: Options) => await list(ports(), options))
  models
    .command('show')
    .description("a model's shape, weights, context and id")
    .argument('[model]', 'which model', BUNDLED_MODEL)
    .option(...revision)
    .option(...json)
    .action(async (ref: string, options: Options) => await show(ref, ports(), options))
  models
    .command('pull')
    .description('fetch a hub model into the cache, all of it')
    .argument('<model>', 'org/repo or org/repo/file.gguf')
    .option(...revision)
    .option(...json)
    .action(async (ref: string, options: Options) => await pull(ref, ports(), options))
  models
    .command('quantize')
    .description('write a model with its weights rounded to 4 or 8 bits in groups of 32')
    .argument('<model>', 'folder in Hugging Face layout, or org/repo')
    .requiredOption('--bits <n>', '4 or 8; embedding and head always get 8')
    .requiredOption('--out <folder>', 'new folder for the result')
    .option('--symmetric', 'with --bits 4: no offset a group (Q4_0 instead of Q4_1): smaller, less exact')
    .option(...revision)
    .option(...json)
    .action(async (ref: string, options: QuantizeFlags) => await quantizeCommand(ref, ports(), options))
  models
    .command('rm')
    .description('remove a hub model from the cache, or weights that came from peers')
    .argument('<model>', 'org/repo, or name@digest')
    .option('-y, --yes', 'do not ask')
    .option(...json)
    .action(async (ref: string, options: Options) => await remove(ref, ports(), options))
  return models
}

async function list(ports: ModelPorts, options: Options): Promise<void> {
  const bundled = [...ports.bundled].map(([name, path]) => ({ name, source: 'bundled', path }))
  const cached = (await cachedModels(ports.cache)).map((model) => ({
    ...model,
    source: 'hub',
    complete: model.missingBytes === 0,
  }))
  const shared = await peerModels(ports.cache)
  const fromPeers = shared.map(({ modelId, ...rest }) => ({ name: modelId, ...rest, source: 'peers' }))
  const lines = [
    ...bundled.map(({ name }) => `${name}  (bundled)`),
    ...cached.map(({ bytes, complete, missingBytes, name, revisions }) => {
      const state = complete ? '' : `, ${formatBytes(missingBytes)} not fetched`
      return `${name}  (hub, ${formatBytes(bytes)} on disk${state}, ${Object.keys(revisions).join(' ') || 'no revision'})`
    }),
    ...fromPeers.map(({ bytes, name }) => `${name}  (from peers, ${formatBytes(bytes)} on disk)`),
  ]
  print(options, { models: [...bundled, ...cached, ...fromPeers], cache: ports.cache.name }, lines)
}

async function show(ref: string, ports: ModelPorts, options: Options): Promise<void> {
  const progress = createProgress(process.stderr)
  const model = await resolveModel(ref, ports, {
    revision: options.revision,
    onProgress: ({ loadedBytes, totalBytes }) => progress.update(`reading ${ref}`, loadedBytes, totalBytes),
  })
  try {
    const weight = weighModel(model)
    const tokenizer = await model.tokenizerFiles()
    progress.end()
    const { spec } = model
    const positions = describePositions(spec.positions)
    const mix = Object.entries(weight.dtypeBytes).map(([dtype, bytes]) => `${dtype} ${formatBytes(bytes)}`)
    const document = {
      name: model.name,
      id: model.id,
      format: model.format,
      spec: { ...spec, positions },
      ...weight,
      kvBytesPerTokenAndBlock: kvBytesPerToken(spec, 1),
      tokenizer: tokenizer === undefined ? null : tokenizerType(tokenizer.tokenizer),
      chatTemplate: tokenizer?.chatTemplate !== undefined,
      generationDefaults: model.generationDefaults,
    }
    const { blockBytes, clientBytes } = weight
    print(options, document, [
      model.name,
      `  id          ${model.id}`,
      `  family      ${spec.family}, ${model.format}`,
      `  blocks      ${spec.blockCount}, ${formatBytes(Math.min(...blockBytes))} to ${formatBytes(Math.max(...blockBytes))} each`,
      `  client      ${formatBytes(clientBytes)} (embedding, final norm${spec.tiedHead ? '' : ', head'})`,
      `  weights     ${formatBytes(weight.totalBytes)}: ${mix.join(', ')}`,
      `  hidden      ${spec.hiddenSize}, intermediate ${spec.intermediateSize}, ${spec.headCount} heads, ${spec.kvHeadCount} key/value heads of ${spec.headDim}`,
      `  vocabulary  ${spec.vocabSize}${spec.tiedHead ? ', head tied' : ''}`,
      `  context     ${spec.contextLength} tokens, KV cache ${formatBytes(kvBytesPerToken(spec, 1))} a token and block (f32)`,
      `  tokenizer   ${document.tokenizer ?? 'none'}, ${document.chatTemplate ? 'with' : 'no'} chat template`,
    ])
  } finally {
    progress.end()
    await model.close()
  }
}

async function quantizeCommand(ref: string, ports: ModelPorts, options: QuantizeFlags): Promise<void> {
  const dtype = quantisedDtype(options)
  const place = await locateModel(ref, ports)
  const interrupt = catchInterrupt()
  const progress = createProgress(process.stderr)
  try {
    const folder =
      place.kind === 'local'
        ? localFolder(ports.files, place.path)
        : await openHub(place, ports, options.revision, undefined, interrupt.signal)
    const result = await quantizeModel({
      folder,
      out: options.out,
      dtype,
      signal: interrupt.signal,
      onProgress: (done, total) => progress.update(`rounding ${ref}`, done, total),
    })
    progress.end()
    print(options, { model: ref, dtype, out: options.out, ...result }, [
      `${options.out}: ${result.tensors} matrices as ${dtype}, ${formatBytes(result.bytes)}`,
    ])
  } finally {
    progress.end()
    interrupt.release()
  }
}

function quantisedDtype({ bits, symmetric }: QuantizeFlags): QuantisedDtype {
  if (bits === '8') return 'Q8_0'
  if (bits === '4') return symmetric === true ? 'Q4_0' : 'Q4_1'
  throw new ChoraleError('bad_config', `--bits ${JSON.stringify(bits)}: give 4 or 8`, { field: 'bits' })
}

async function pull(ref: string, ports: ModelPorts, options: Options): Promise<void> {
  const progress = createProgress(process.stderr)
  const stop = new AbortController()
  const interrupt = () =>
    stop.abort(new ChoraleError('cancelled', 'stopped; the next pull goes on from here'))
  process.once('SIGINT', interrupt)
  try {
    const pulled = await pullModel(ref, ports, {
      revision: options.revision,
      signal: stop.signal,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update(`pulling ${ref}`, loadedBytes, totalBytes),
    })
    progress.end()
    const bytes = pulled.files.reduce((sum, { size }) => sum + size, 0)
    print(options, { ...pulled, bytes, cache: ports.cache.name }, [
      `${pulled.name}: ${pulled.files.length} files, ${formatBytes(bytes)}, commit ${pulled.commit}`,
    ])
  } finally {
    process.off('SIGINT', interrupt)
    progress.end()
  }
}

async function remove(ref: string, ports: ModelPorts, options: Options): Promise<void> {
  if (ports.bundled.has(ref)) {
    throw new ChoraleError(
      'bad_request',
      `${ref} comes with the program and is not removed; models rm is for hub models`,
    )
  }
  const fromPeers = (await peerModels(ports.cache)).find(({ modelId }) => modelId === ref)
  const name = fromPeers?.modelId ?? ref.split('/').slice(0, 2).join('/')
  const model = fromPeers ?? (await cachedModels(ports.cache)).find((candidate) => candidate.name === name)
  if (model === undefined) {
    throw new ChoraleError(
      'not_found',
      `${ref}: not in the cache (${ports.cache.name}); models list shows what is`,
    )
  }
  if (options.yes !== true && !(await askYes(`Remove ${name}, ${formatBytes(model.bytes)}?`))) {
    throw new ChoraleError('cancelled', `${name} was kept; --yes removes without asking`)
  }
  await (fromPeers ? removePeerModel : removeCachedModel)(ports.cache, name)
  print(options, { removed: name, bytes: model.bytes }, [`removed ${name}, ${formatBytes(model.bytes)}`])
}

/** The values that tell models apart; the table of frequencies or slopes follows from the config. */
function describePositions(positions: ModelSpec['positions']): object {
  if (positions.kind === 'alibi') {
    const { slopes: _, ...rest } = positions
    return rest
  }
  const { inverseFrequencies: _, ...rest } = positions
  return rest
}

function tokenizerType(tokenizer: TokenizerFiles['tokenizer']): string | null {
  const model = tokenizer['model']
  return isJsonObject(model) && typeof model['type'] === 'string' ? model['type'] : null
}

function print(options: Options, document: unknown, lines: readonly string[]): void {
  process.stdout.write(options.json === true ? `${JSON.stringify(document)}\n` : `${lines.join('\n')}\n`)
}
