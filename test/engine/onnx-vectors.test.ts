import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { asTransformers } from '../../node/cli/parity/transformers-attention.ts'
import { createFileStore } from '../../node/file-store.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { type NumberTensor, readTensors } from '../../src/model/safetensors.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'
import { ones, relativeError, runCut } from './span-runs.ts'

/** One tiny model of each family, with activations computed by Hugging Face transformers. */
const VECTORS = join(import.meta.dirname, '../vectors')
const NAMES = readdirSync(VECTORS, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('config.json'))
  .map((path) => path.slice(0, -'/config.json'.length))

let engine: Engine
let threaded: Engine
beforeAll(async () => {
  engine = await createOnnxEngine({ threads: 1 })
  threaded = await createOnnxEngine({ threads: 2 })
})
afterAll(async () => {
  await engine.close()
  await threaded.close()
})

function argmax(values: Float32Array): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? -Infinity) ? index : best), 0)
}

describe.each(NAMES)('onnx engine on %s', (name) => {
  let model: Model
  let reference: ReadonlyMap<string, NumberTensor>
  let hidden: Tensor
  const ids = (key: string) => [...(reference.get(key)?.data ?? [])]
  const expected = (key: string) => reference.get(key)?.data as Float32Array

  beforeAll(async () => {
    const files = createFileStore()
    const folder = join(VECTORS, name)
    // References are made with eager attention.
    model = asTransformers(await openModel(folder, { files }), 'eager')
    const source = await files.open(join(folder, 'reference.safetensors'))
    reference = await readTensors(source)
    await source.close()
    hidden = (await loadEmbedding(model)).gather(ids('input_ids'))
  })
  afterAll(async () => await model.close())

  it('computes every hidden state, the final norm and the logits to 1e-5', async () => {
    let states = hidden
    for (let block = 0; block < model.spec.blockCount; block++) {
      const span = await engine.loadSpan(model, { start: block, end: block + 1, kvTokens: hidden.shape[0] })
      states = await runCut(span, states, [])
      expect(relativeError(states.data, expected(`hidden.${block + 1}`))).toBeLessThan(1e-5)
      await span.close()
    }
    const head = await engine.loadHead(model)
    expect(relativeError((await head.finalNorm(states)).data, expected('final'))).toBeLessThan(1e-5)
    expect(relativeError((await head.logits(states)).data, expected('logits'))).toBeLessThan(1e-5)
    await head.close()
  })

  it('decodes the same greedy ids with its cache', async () => {
    const wanted = ids('decode_ids')
    const { blockCount, vocabSize } = model.spec
    const span = await engine.loadSpan(model, { start: 0, end: blockCount, kvTokens: 128 })
    const head = await engine.loadHead(model)
    const embedding = await loadEmbedding(model)
    const lease = span.lease(hidden.shape[0] + wanted.length)
    const decoded: number[] = []
    let next = hidden
    for (let step = 0; step < wanted.length; step++) {
      const [out] = await span.step([{ lease, hidden: next }])
      const count = (out as Tensor).shape[0]
      const { data } = await head.logits(rows(out as Tensor, count - 1, count))
      const row = expected('decode_logits').subarray(step * vocabSize, (step + 1) * vocabSize)
      expect(relativeError(data, row)).toBeLessThan(1e-5)
      decoded.push(argmax(data))
      next = embedding.gather([argmax(data)])
    }
    expect(decoded).toEqual(wanted)
    await span.close()
    await head.close()
  })

  it('gives the same bits whole, split in two, one by one, in chunks and on two threads', async () => {
    const { blockCount } = model.spec
    const kvTokens = hidden.shape[0]
    const whole = await engine.loadSpan(model, { start: 0, end: blockCount, kvTokens })
    const wanted = await runCut(whole, hidden, [])
    expect((await runCut(whole, hidden, ones(kvTokens))).data).toEqual(wanted.data)
    expect((await runCut(whole, hidden, [3, 1, 2])).data).toEqual(wanted.data)
    const first = await threaded.loadSpan(model, { start: 0, end: 1, kvTokens })
    const second = await threaded.loadSpan(model, { start: 1, end: blockCount, kvTokens })
    const split = await runCut(second, await runCut(first, hidden, [5]), [])
    expect(split.data).toEqual(wanted.data)
    for (const span of [whole, first, second]) await span.close()
  })
})
