import { open, mkdir, readdir, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ChoraleError } from '../../../src/errors.ts'
import type { ByteSource } from '../../../src/byte-source.ts'
import { readJsonFile } from '../../../src/model/json.ts'
import type { ModelFolder } from '../../../src/model/model-folder.ts'
import { openRequired } from '../../../src/model/model-folder.ts'
import { readTable } from '../../../src/model/open-model.ts'
import {
  BLOCKS_KEY,
  type BlockEntry,
  hasBlocks,
  QUANT_METHOD,
  storedShape,
} from '../../../src/model/quantised-safetensors.ts'
import { readWeight, type StoredTensor, weightInfo } from '../../../src/model/tensor-table.ts'
import { dequantize } from '../../../src/tensor/quant.ts'
import { quantize, type QuantisedDtype } from '../../../src/tensor/quantize.ts'
import { blockSize, byteLength } from '../../../src/tensor/weight.ts'

export interface QuantizeOptions {
  readonly folder: ModelFolder
  readonly out: string
  /** Format of the matrices of blocks. */
  readonly dtype: QuantisedDtype
  readonly signal: AbortSignal
  readonly onProgress: (doneBytes: number, totalBytes: number) => void
}

/** Files that go along as they are, where the model has them. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'generation_config.json',
  'special_tokens_map.json',
]

/** Fewer rows than this decide more than they weigh: a router's. */
const MIN_ROWS = 32

interface Plan {
  readonly stored: StoredTensor
  /** Undefined: kept as it is. */
  readonly block: BlockEntry | undefined
}

/**
 * Writes a model with its matrices rounded to groups of 32, one tensor in memory at a time. Embedding and head, where
 * rounding costs most, get 8 bits; norms, biases and routers stay. What was written is taken back when it fails.
 * @throws `bad_config` when `out` holds files already, `not_supported` when the model is quantised already.
 */
export async function quantizeModel(options: QuantizeOptions): Promise<{ bytes: number; tensors: number }> {
  const { folder, out, signal } = options
  const sources: ByteSource[] = []
  await makeEmpty(out)
  try {
    const file = await openRequired(folder, 'config.json', signal)
    sources.push(file)
    const config = await readJsonFile(file)
    if (hasBlocks(config) || (config['quantization_config'] ?? null) !== null) {
      throw new ChoraleError('not_supported', `${folder.name} is quantised already`, {
        field: 'quantization_config',
      })
    }
    const table = await readTable(folder, (source) => (sources.push(source), source), signal)
    const plans = [...table.values()].map((stored) => ({ stored, block: blockOf(stored, options.dtype) }))
    const bytes = await writeWeights(join(out, 'model.safetensors'), plans, options)
    const bits = options.dtype === 'Q8_0' ? 8 : 4
    const quantised = { ...config, quantization_config: { quant_method: QUANT_METHOD, bits, group_size: 32 } }
    await writeWhole(
      join(out, 'config.json'),
      new TextEncoder().encode(`${JSON.stringify(quantised, undefined, 2)}\n`),
    )
    for (const name of COMPANIONS) {
      const source = await folder.open(name, signal)
      if (source === undefined) continue
      await writeWhole(join(out, name), await source.read(0, source.size, signal))
      await source.close()
    }
    return { bytes, tensors: plans.filter(({ block }) => block !== undefined).length }
  } catch (error) {
    await rm(out, { recursive: true, force: true })
    throw error
  } finally {
    for (const source of sources) await source.close()
  }
}

function blockOf(stored: StoredTensor, dtype: QuantisedDtype): BlockEntry | undefined {
  const { shape } = stored
  const columns = shape.at(-1) ?? 1
  const rowCount = shape.at(-2) ?? 1
  if (shape.length < 2 || rowCount < MIN_ROWS || columns % blockSize(dtype) !== 0) return undefined
  const outer = /(embed_tokens|word_embeddings|lm_head)\.weight$/.test(stored.name)
  return { dtype: outer ? 'Q8_0' : dtype, shape }
}

async function writeWeights(path: string, plans: readonly Plan[], options: QuantizeOptions): Promise<number> {
  const blocks = Object.fromEntries(
    plans.flatMap(({ stored, block }) => (block === undefined ? [] : [[stored.name, block]])),
  )
  const header: Record<string, unknown> = {
    __metadata__: { format: 'pt', [BLOCKS_KEY]: JSON.stringify(blocks) },
  }
  let end = 0
  for (const { stored, block } of plans) {
    const size = block === undefined ? stored.byteLength : byteLength(block.dtype, block.shape)
    const dtype = block === undefined ? stored.dtype : 'U8'
    header[stored.name] = {
      dtype,
      shape: block === undefined ? stored.shape : storedShape(block),
      data_offsets: [end, end + size],
    }
    end += size
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const padded = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20)
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true)
  padded.set(json, 8)
  const file = await open(`${path}.part`, 'w')
  try {
    await writeAll(file, padded)
    let done = 0
    const total = plans.reduce((sum, { stored }) => sum + stored.byteLength, 0)
    for (const { stored, block } of plans) {
      options.signal.throwIfAborted()
      await writeAll(file, await tensorBytes(stored, block, options.signal))
      done += stored.byteLength
      options.onProgress(done, total)
    }
  } finally {
    await file.close()
  }
  await rename(`${path}.part`, path)
  return padded.length + end
}

async function tensorBytes(
  stored: StoredTensor,
  block: BlockEntry | undefined,
  signal: AbortSignal,
): Promise<Uint8Array> {
  if (block === undefined) return await stored.source.read(stored.offset, stored.byteLength, signal)
  weightInfo(stored)
  try {
    return quantize(block.dtype as QuantisedDtype, dequantize(await readWeight(stored, signal)))
  } catch (error) {
    if (error instanceof ChoraleError && error.code === 'bad_request') {
      throw new ChoraleError('bad_file', `${stored.name}: ${error.message}`, {
        field: stored.name,
        cause: error,
      })
    }
    throw error
  }
}

/** Makes the folder; refuses one with files in it. */
async function makeEmpty(out: string): Promise<void> {
  await mkdir(dirname(out), { recursive: true })
  await mkdir(out, { recursive: true })
  if ((await readdir(out)).length > 0) {
    throw new ChoraleError('bad_config', `${out} holds files already; name a new folder`, { field: 'out' })
  }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'w')
  try {
    await writeAll(file, bytes)
  } finally {
    await file.close()
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten
}
