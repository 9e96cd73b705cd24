import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readReference, type Reference } from '../../node/cli/parity/reference-folder.ts'
import { createFileStore } from '../../node/file-store.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { loadSpans, parseSplit, splitEvenly, traceInside, traceThrough } from '../../src/session/trace.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'

const VECTORS = join(import.meta.dirname, '..', 'vectors')
const engine = createReferenceEngine()

function relativeError(actual: Tensor, expected: Tensor): number {
  const largest = expected.data.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  return (
    expected.data.reduce((max, value, i) => Math.max(max, Math.abs((actual.data[i] ?? NaN) - value)), 0) /
    largest
  )
}

for (const name of ['llama-gqa', 'llama3-rope-scaled']) {
  describe(`reference engine on ${name}`, () => {
    let model: Model
    let reference: Reference

    beforeAll(async () => {
      model = await openModel(join(VECTORS, name), { files: createFileStore() })
      reference = await readReference(join(VECTORS, name))
    })
    afterAll(() => model.close())

    it('computes what transformers computes, and decodes the same ids with a cache', async () => {
      const { blockCount } = model.spec
      const client = { embedding: await loadEmbedding(model), head: await engine.loadHead(model) }
      const decode = reference.decodeIds.length
      const runners = await loadSpans(
        engine,
        model,
        splitEvenly(blockCount, 2),
        reference.inputIds.length + decode,
      )
      const trace = await traceThrough(client, runners, reference.inputIds, decode)
      for (const [block, states] of trace.hidden) {
        expect(relativeError(states, reference.tensors.get(`hidden.${block}`) as Tensor)).toBeLessThan(1e-5)
      }
      expect(relativeError(trace.final, reference.tensors.get('final') as Tensor)).toBeLessThan(1e-5)
      expect(relativeError(trace.logits, reference.tensors.get('logits') as Tensor)).toBeLessThan(1e-5)
      expect(
        relativeError(trace.decodeLogits, reference.tensors.get('decode_logits') as Tensor),
      ).toBeLessThan(1e-5)
      expect(trace.decodeIds).toEqual(reference.decodeIds)
    })

    it('gives the same bits in one prefill, in chunks and one by one', async () => {
      const hidden = (await loadEmbedding(model)).gather(reference.inputIds)
      const tokens = hidden.shape[0]
      const span = await engine.loadSpan(model, { start: 0, end: model.spec.blockCount, kvTokens: 200 })
      const run = async (cuts: readonly number[]) => {
        const lease = span.lease(tokens)
        let last: Tensor | undefined
        for (let i = 0; i + 1 < cuts.length; i++) {
          const part = rows(hidden, cuts[i] as number, cuts[i + 1] as number)
          last = (await span.step([{ lease, hidden: part }]))[0]
        }
        lease.release()
        const count = (last as Tensor).shape[0]
        return [...rows(last as Tensor, count - 1, count).data]
      }
      const whole = await run([0, tokens])
      expect(await run([0, 5, 7, tokens])).toEqual(whole)
      expect(await run(Array.from({ length: tokens + 1 }, (_, i) => i))).toEqual(whole)
    })

    it('shows what passes between blocks inside a span', async () => {
      const hidden = (await loadEmbedding(model)).gather(reference.inputIds)
      const inside = await traceInside(engine, model, { start: 0, end: model.spec.blockCount }, hidden)
      expect([...inside.keys()]).toEqual(Array.from({ length: model.spec.blockCount - 1 }, (_, i) => i + 1))
      for (const [block, states] of inside) {
        expect(relativeError(states, reference.tensors.get(`hidden.${block}`) as Tensor)).toBeLessThan(1e-5)
      }
    })
  })
}

describe('reference engine', () => {
  let model: Model

  beforeAll(async () => {
    model = await openModel(join(VECTORS, 'llama-gqa'), { files: createFileStore() })
  })
  afterAll(() => model.close())

  it('forgets what was rolled back', async () => {
    const hidden = (await loadEmbedding(model)).gather([3, 4, 5, 6, 7])
    const span = await engine.loadSpan(model, { start: 1, end: 3, kvTokens: 32 })
    const clean = span.lease(8)
    const [expected] = await span.step([{ lease: clean, hidden }])
    const other = span.lease(8)
    await span.step([{ lease: other, hidden: rows(hidden, 0, 4) }])
    other.rollback(2)
    expect(other.position).toBe(2)
    const [again] = await span.step([{ lease: other, hidden: rows(hidden, 2, 5) }])
    expect(again?.data).toEqual(rows(expected as Tensor, 2, 5).data)
  })

  it('refuses a step that passes the lease and computes nothing', async () => {
    const hidden = (await loadEmbedding(model)).gather([3, 4, 5])
    const span = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: 32 })
    const lease = span.lease(2)
    await expect(span.step([{ lease, hidden }])).rejects.toMatchObject({ code: 'capacity' })
    expect(lease.position).toBe(0)
  })

  it('refuses block ranges outside the model', async () => {
    for (const [start, end] of [
      [0, 5],
      [2, 2],
      [-1, 2],
      [0.5, 2],
    ] as const) {
      await expect(engine.loadSpan(model, { start, end, kvTokens: 16 })).rejects.toMatchObject({
        code: 'bad_request',
      })
    }
  })

  it('refuses a lease of another span', async () => {
    const hidden = (await loadEmbedding(model)).gather([3])
    const one = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: 16 })
    const two = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: 16 })
    await expect(two.step([{ lease: one.lease(1), hidden }])).rejects.toMatchObject({ code: 'bad_request' })
  })
})

describe('parseSplit', () => {
  it('reads spans that cover all blocks', () => {
    expect(parseSplit('0:2,2:5', 5)).toEqual([
      { start: 0, end: 2 },
      { start: 2, end: 5 },
    ])
  })

  it('refuses gaps, overlaps, empty spans, short covers and nonsense', () => {
    for (const text of ['0:2,3:5', '0:3,2:5', '0:0,0:5', '0:4', '0:6', '', 'a', '0:2,', '1:5', '-1:5']) {
      expect(() => parseSplit(text, 5), text).toThrow(/does not cover/)
    }
  })
})

describe('splitEvenly', () => {
  it('covers all blocks with spans that differ by at most one, for every count', () => {
    for (let blocks = 1; blocks <= 40; blocks++) {
      for (let parts = 1; parts <= 8; parts++) {
        const spans = splitEvenly(blocks, parts)
        expect(spans.length).toBe(Math.min(blocks, parts))
        expect(spans[0]!.start).toBe(0)
        expect(spans.at(-1).end).toBe(blocks)
        const sizes = spans.map(({ start, end }) => end - start)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
        spans.slice(1).forEach((span, i) => expect(span.start).toBe(spans[i]!.end))
      }
    }
  })

  it('covers every block once with the longer spans first', () => {
    expect(splitEvenly(8, 3)).toEqual([
      { start: 0, end: 3 },
      { start: 3, end: 6 },
      { start: 6, end: 8 },
    ])
    expect(splitEvenly(2, 3)).toEqual([
      { start: 0, end: 1 },
      { start: 1, end: 2 },
    ])
  })
})
