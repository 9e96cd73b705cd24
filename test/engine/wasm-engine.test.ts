import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { compileWideWasm } from '../../node/compile-wide-wasm.ts'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine, type WasmEngineOptions } from '../../src/engine/wasm-engine.ts'
import type { Model } from '../../src/model/model.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { argmax } from '../../src/sampling/filters.ts'
import { concatRows, rows, tensor, type Tensor } from '../../src/tensor/tensor.ts'
import type { WeightDtype } from '../../src/tensor/weight.ts'
import { QUANTIZED_SPEC, quantizedModel } from './quantized-model.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'
import { noise, ones, relativeError, runCut } from './span-runs.ts'

const ROOT = join(import.meta.dirname, '../..')

const create = async (options: Partial<WasmEngineOptions>): Promise<Engine> =>
  await createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, ...options })

let engine: Engine
let threaded: Engine
let plain: Engine
let eight: Engine
/** 256-bit vectors where there are some. */
let wide: Engine
beforeAll(async () => {
  engine = await create({ threads: 1 })
  threaded = await create({ threads: 2 })
  plain = await create({ threads: 1, plain: true })
  eight = await create({ threads: 2, activationBits: 8 })
  wide = await create({ threads: 2, ...(compileWideWasm && { compileWide: compileWideWasm }) })
})
afterAll(async () => {
  await Promise.all([engine, threaded, plain, eight, wide].map((each) => each.close()))
})

/** Hidden states, final norms and logits of 21 tokens in three steps. */
async function outputsOf(each: Engine, model: Model): Promise<{ states: Tensor; logits: Tensor }> {
  const { blockCount, hiddenSize } = model.spec
  const span = await each.loadSpan(model, { start: 0, end: blockCount, kvTokens: 32 })
  const head = await each.loadHead(model)
  const out = await runCut(span, noise(21, hiddenSize), [9, 1, 11])
  const states = concatRows([out, await head.finalNorm(out)], hiddenSize)
  const logits = await head.logits(out)
  await span.close()
  await head.close()
  return { states, logits }
}

describe('wasm engine on float weights', () => {
  const rotated = (headDim: number, pairs: number, factor = 1): Partial<ModelSpec> => ({
    headDim,
    positions: {
      kind: 'rope',
      rotaryDim: 2 * pairs,
      inverseFrequencies: Array.from({ length: pairs }, (_, i) => 0.6 ** i),
      attentionFactor: factor,
    },
  })
  for (const [name, change] of [
    ['odd everywhere', {}],
    ['heads of 99, partly rotated', { headCount: 3, kvHeadCount: 3, ...rotated(99, 12, 0.9) }],
    ['71 heads of 8 on one KV head', { headCount: 71, kvHeadCount: 1, ...rotated(8, 4) }],
    ['heads of 80', { headCount: 4, kvHeadCount: 2, ...rotated(80, 40) }],
    ['heads of 256', { headCount: 2, kvHeadCount: 1, ...rotated(256, 128) }],
  ] as const) {
    for (const stored of ['F32', 'F16', 'BF16'] as const) {
      if (stored !== 'F32' && name !== 'odd everywhere') continue
      it(`agrees with the reference engine to 1e-5: ${name}, ${stored}`, async () => {
        const model = randomModel({ ...ODD_SPEC, ...change }, () => stored)
        const wanted = await outputsOf(createReferenceEngine(), model)
        const got = await outputsOf(threaded, model)
        expect(relativeError(got.states.data, wanted.states.data)).toBeLessThan(1e-5)
        expect(relativeError(got.logits.data, wanted.logits.data)).toBeLessThan(1e-5)
      })
    }
  }
})

/**
 * Rows agree to 1e-5, but for a few: a value that lies on a tie up to float32's error is rounded up by one engine and
 * down by the other, and one step of 127 moves its whole row.
 */
function expectRoundedAlike(actual: Tensor, wanted: Tensor): void {
  const largest = wanted.data.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  const errors = Array.from({ length: wanted.shape[0] }, (_, row) => {
    const mine = rows(actual, row, row + 1).data
    const theirs = rows(wanted, row, row + 1).data
    return mine.reduce((max, value, i) => Math.max(max, Math.abs(value - (theirs[i] as number))), 0) / largest
  })
  expect(Math.max(...errors)).toBeLessThan(5e-3)
  expect(errors.filter((error) => error > 1e-5).length).toBeLessThanOrEqual(wanted.shape[0] / 8)
}

describe('wasm engine on quantised weights', () => {
  for (const dtype of ['Q4_0', 'Q4_1', 'Q8_0', 'Q4_K', 'Q6_K'] as const) {
    const model = quantizedModel({ ...QUANTIZED_SPEC, blockCount: 2 }, () => dtype)

    it(`agrees to 1e-4 with the reference on dequantised weights: ${dtype}`, async () => {
      const wanted = await outputsOf(createReferenceEngine(), model)
      const alike = await outputsOf(createReferenceEngine({ activations: 'q15-groups' }), model)
      const got = await outputsOf(threaded, model)
      for (const part of ['states', 'logits'] as const) {
        expect(relativeError(got[part].data, wanted[part].data)).toBeLessThan(1e-4)
        expect(relativeError(got[part].data, alike[part].data)).toBeLessThan(1e-4)
      }
      const simd = await outputsOf(plain, model)
      expect([simd.states.data, simd.logits.data]).toEqual([got.states.data, got.logits.data])
    })

    it(`rounds to 8 bits as the reference that does so too: ${dtype}`, async () => {
      const wanted = await outputsOf(createReferenceEngine({ activations: 'q8-groups' }), model)
      const got = await outputsOf(eight, model)
      expectRoundedAlike(got.states, wanted.states)
      expectRoundedAlike(got.logits, wanted.logits)
    })
  }

  it('keeps weights as small as the file has them', async () => {
    const model = quantizedModel(QUANTIZED_SPEC, () => 'Q4_1')
    const span = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: 16 })
    const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount } = QUANTIZED_SPEC
    const weights =
      2 * hiddenSize * headCount * headDim +
      2 * hiddenSize * kvHeadCount * headDim +
      3 * hiddenSize * intermediateSize
    // Five bits a weight; norms and biases besides.
    expect(span.weightBytes).toBeLessThan(
      (weights * 20) / 32 + 4 * (6 * hiddenSize + 2 * intermediateSize + 256),
    )
    await span.close()
  })
})

const MIXED = (role: string): WeightDtype =>
  ({ q: 'Q4_1', k: 'Q6_K', v: 'F16', o: 'Q8_0', gate: 'Q4_0', up: 'Q4_K', down: 'Q5_0', head: 'Q8_0' })[
    role
  ] as WeightDtype

describe('wasm engine invariance', () => {
  for (const [name, model, count] of [
    ['odd floats', randomModel(ODD_SPEC, () => 'F32'), 150],
    ['4-bit', quantizedModel(QUANTIZED_SPEC, () => 'Q4_1'), 140],
    ['a format for each matrix', quantizedModel({ ...QUANTIZED_SPEC, blockCount: 1 }, MIXED), 290],
  ] as const) {
    it(`gives the same bits in one prefill, in chunks, one by one, on one thread and two: ${name}`, async () => {
      const { blockCount, hiddenSize } = model.spec
      const hidden = noise(count, hiddenSize)
      let wanted: Tensor | undefined
      for (const each of [engine, threaded]) {
        const span = await each.loadSpan(model, { start: 0, end: blockCount, kvTokens: count })
        wanted ??= await runCut(span, hidden, [count])
        for (const cuts of [
          ones(count),
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, count - 105],
          [65, 1, count - 66],
          [count - 1, 1],
        ]) {
          expect((await runCut(span, hidden, cuts)).data).toEqual(wanted.data)
        }
        await span.close()
      }
    })
  }

  it('gives 16 sessions in one step the bits each has alone', async () => {
    const model = quantizedModel(QUANTIZED_SPEC, () => 'Q4_0')
    const span = await threaded.loadSpan(model, { start: 0, end: 3, kvTokens: 16 * 48 })
    const hidden = noise(60, QUANTIZED_SPEC.hiddenSize)
    const part = (session: number, from: number, to: number) => rows(hidden, session + from, session + to)
    const alone: Tensor[] = []
    for (let session = 0; session < 16; session++)
      alone.push(await runCut(span, part(session, 0, session + 6), [session + 3, 1, 2]))
    const leases = alone.map(() => span.lease(40))
    const together = alone.map(() => [] as Tensor[])
    const step = async (from: (session: number) => number, to: (session: number) => number) => {
      const entries = leases.map((lease, session) => ({
        lease,
        hidden: part(session, from(session), to(session)),
      }))
      for (const [session, out] of (await span.step(entries)).entries()) together[session]?.push(out)
    }
    await step(
      () => 0,
      (session) => session + 3,
    )
    for (const token of [3, 4, 5]) {
      await step(
        (session) => session + token,
        (session) => session + token + 1,
      )
    }
    for (const [session, parts] of together.entries()) {
      expect(concatRows(parts, QUANTIZED_SPEC.hiddenSize).data).toEqual(alone[session]?.data)
    }
    await span.close()
  })

  it('gives each row of logits the same bits alone and among others', async () => {
    const model = quantizedModel(QUANTIZED_SPEC, () => 'Q8_0')
    const hidden = noise(40, QUANTIZED_SPEC.hiddenSize)
    const head = await threaded.loadHead(model)
    const all = await head.logits(hidden)
    for (const row of [0, 17, 39]) {
      expect((await head.logits(rows(hidden, row, row + 1))).data).toEqual(rows(all, row, row + 1).data)
    }
    await head.close()
  })
})

describe('wasm head, best', () => {
  const bestOf = (logits: Tensor): number[] =>
    Array.from({ length: logits.shape[0] }, (_, row) => argmax(rows(logits, row, row + 1).data))

  it('is the argmax of the logits, on one thread and two, for any vocabulary', async () => {
    for (const vocabSize of [1, 5, 8, 61, 259, 1000]) {
      const model = randomModel({ ...ODD_SPEC, vocabSize }, () => 'F32')
      const hidden = noise(19, ODD_SPEC.hiddenSize)
      for (const each of [engine, threaded]) {
        const head = await each.loadHead(model)
        const best = await head.best?.(hidden)
        expect(Array.from(best ?? [])).toEqual(bestOf(await head.logits(hidden)))
        // The logits' own path is as it was.
        expect(Array.from((await head.best?.(rows(hidden, 3, 4))) ?? [])).toEqual([best?.[3]])
        await head.close()
      }
    }
  })

  it.each(['Q8_0', 'Q5_0', 'Q6_K'] as const)(
    'is the argmax where rows are screened first: %s',
    async (dtype) => {
      const { hiddenSize } = QUANTIZED_SPEC
      const hidden = noise(19, hiddenSize)
      const spoiled = tensor(19, hiddenSize, hidden.data.slice())
      spoiled.data[7 * hiddenSize + 1] = Number.NaN
      for (const vocabSize of [3, 259, 3000]) {
        const model = quantizedModel({ ...QUANTIZED_SPEC, vocabSize }, () => dtype)
        const { bytes, shape } = await model.weights.client('head')
        // Rows that differ from their neighbours in one byte: what screening leaves out tells most of them apart, some nothing at all.
        const rowBytes = bytes.length / vocabSize
        const close = new Uint8Array(bytes.length)
        for (let row = 0; row < vocabSize; row++) {
          close.set(bytes.subarray(0, rowBytes), row * rowBytes)
          const at = row * rowBytes + 3 + ((row * 7) % 16)
          close[at] = (close[at] as number) ^ (row & 3)
        }
        for (const head of [bytes, close]) {
          const client: Model['weights']['client'] = async (role) =>
            role === 'head' ? { dtype, shape, bytes: head } : await model.weights.client(role)
          const changed = { ...model, weights: { ...model.weights, client } }
          for (const each of [engine, threaded, plain, wide, eight]) {
            const loaded = await each.loadHead(changed)
            const wanted = bestOf(await loaded.logits(hidden))
            expect(Array.from((await loaded.best?.(hidden)) ?? [])).toEqual(wanted)
            wanted[7] = -1
            expect(Array.from((await loaded.best?.(spoiled)) ?? [])).toEqual(wanted)
            await loaded.close()
          }
        }
      }
    },
  )

  it('takes the lowest id of equal logits, and says -1 where one is not finite', async () => {
    const { hiddenSize } = ODD_SPEC
    const vocabSize = 203
    const model = randomModel({ ...ODD_SPEC, vocabSize }, () => 'F32')
    const withHead = (change: (row: number) => number): Model => {
      const values = Float32Array.from({ length: vocabSize * hiddenSize }, (_, i) =>
        change(Math.floor(i / hiddenSize)),
      )
      const head = {
        dtype: 'F32' as const,
        shape: [vocabSize, hiddenSize],
        bytes: new Uint8Array(values.buffer),
      }
      const client: Model['weights']['client'] = async (role) =>
        role === 'head' ? head : await model.weights.client(role)
      return { ...model, weights: { ...model.weights, client } }
    }
    const hidden = tensor(2, hiddenSize, new Float32Array(2 * hiddenSize).fill(1))
    for (const each of [engine, threaded, plain]) {
      for (const [change, best] of [
        [() => 0.5, 0],
        [() => -0.5, 0],
        [(row: number) => (row === 77 || row === 202 ? 3 : 1), 77],
        [(row: number) => (row === 202 ? Infinity : 1), -1],
        [(row: number) => (row === 3 ? -Infinity : 1), -1],
      ] as const) {
        const head = await each.loadHead(withHead(change))
        expect(Array.from((await head.best?.(hidden)) ?? [])).toEqual([best, best])
        await head.close()
      }
      const head = await each.loadHead(model)
      const spoiled = tensor(2, hiddenSize, hidden.data.slice())
      spoiled.data[hiddenSize + 1] = Number.NaN
      const [first, second] = (await head.best?.(spoiled)) ?? []
      expect(first).toBeGreaterThanOrEqual(0)
      expect(second).toBe(-1)
      await head.close()
    }
  })
})

describe('wasm engine KV leases', () => {
  const model = randomModel(ODD_SPEC, () => 'F32')
  const hidden = noise(8, ODD_SPEC.hiddenSize)
  const load = async (kvTokens: number) => await engine.loadSpan(model, { start: 0, end: 2, kvTokens })

  it('recomputes the same bits after a rollback', async () => {
    const span = await load(16)
    const lease = span.lease(16)
    const [first] = await span.step([{ lease, hidden }])
    lease.rollback(3)
    const [again] = await span.step([{ lease, hidden: rows(hidden, 3, 8) }])
    expect((again as Tensor).data).toEqual(rows(first as Tensor, 3, 8).data)
    expect(() => lease.rollback(9)).toThrow(/holds 8/)
    await span.close()
  })

  it('refuses a lease and a step that do not fit, and computes nothing then', async () => {
    const span = await load(32)
    const lease = span.lease(10)
    expect(span.kvTokensFree).toBe(16)
    expect(() => span.lease(17)).toThrow(expect.objectContaining({ code: 'capacity' }))
    const other = span.lease(6)
    await span.step([{ lease, hidden }])
    await expect(
      span.step([
        { lease: other, hidden: rows(hidden, 0, 1) },
        { lease, hidden },
      ]),
    ).rejects.toMatchObject({ code: 'capacity' })
    expect([lease.position, other.position]).toEqual([8, 0])
    lease.release()
    expect(span.kvTokensFree).toBe(16)
    await expect(span.step([{ lease, hidden }])).rejects.toMatchObject({ code: 'bad_request' })
    await span.close()
  })

  it('refuses hidden states of another size, leases of another span, doubled leases and closed spans', async () => {
    const span = await load(16)
    const other = await load(16)
    const lease = span.lease(16)
    const refused = expect.objectContaining({ code: 'bad_request' })
    await expect(span.step([{ lease, hidden: noise(1, 44) }])).rejects.toEqual(refused)
    await expect(other.step([{ lease, hidden }])).rejects.toEqual(refused)
    await expect(
      span.step([
        { lease, hidden },
        { lease, hidden },
      ]),
    ).rejects.toEqual(refused)
    expect(lease.position).toBe(0)
    await span.close()
    await other.close()
    await expect(span.step([{ lease, hidden }])).rejects.toMatchObject({ code: 'engine' })
  })
})

describe('wasm engine loading', () => {
  const model = randomModel(ODD_SPEC, () => 'F32')

  it('reports progress and stops when aborted, leaving nothing behind', async () => {
    const abort = new AbortController()
    const seen: number[] = []
    const loading = engine.loadSpan(model, {
      start: 0,
      end: 3,
      kvTokens: 16,
      signal: abort.signal,
      onProgress: (loaded, total) => {
        seen.push(loaded / total)
        abort.abort()
      },
    })
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
    expect(seen).toHaveLength(1)
    expect(seen[0]).toBeCloseTo(1 / 3, 1)
  })

  it('refuses what 4 GiB do not hold before reading any weight, ranges outside the model and senseless threads', async () => {
    const unread = { ...model, weights: { ...model.weights, block: () => expect.unreachable() } }
    await expect(engine.loadSpan(unread, { start: 0, end: 3, kvTokens: 20_000_000 })).rejects.toMatchObject({
      code: 'capacity',
    })
    await expect(engine.loadSpan(model, { start: 1, end: 4, kvTokens: 8 })).rejects.toMatchObject({
      code: 'bad_request',
    })
    const positions = { ...ODD_SPEC.positions, rotaryDim: 12 } as ModelSpec['positions']
    const odd = randomModel({ ...ODD_SPEC, positions }, () => 'F32')
    await expect(engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 8 })).rejects.toMatchObject({
      code: 'not_supported',
    })
    await expect(create({ threads: 0 })).rejects.toMatchObject({ code: 'bad_config' })
    await expect(createWasmEngine({ kernels: readWasmKernels, threads: 2 })).rejects.toMatchObject({
      code: 'engine',
    })
    await expect(create({ kernels: async () => new Uint8Array(8) })).rejects.toMatchObject({ code: 'engine' })
  })

  it('keeps memory flat over 200 generations and over spans that come and go', async () => {
    const small = quantizedModel({ ...QUANTIZED_SPEC, blockCount: 1 }, () => 'Q4_1')
    const hidden = noise(20, QUANTIZED_SPEC.hiddenSize)
    const grow = vi.spyOn(WebAssembly.Memory.prototype, 'grow')
    try {
      const span = await engine.loadSpan(small, { start: 0, end: 1, kvTokens: 64 })
      const after = grow.mock.calls.length
      for (let generation = 0; generation < 200; generation++) {
        await runCut(span, hidden, [15, ...ones(5)])
        expect(span.kvTokensFree).toBe(64)
      }
      await span.close()
      for (let load = 0; load < 20; load++) {
        const again = await engine.loadSpan(small, { start: 0, end: 1, kvTokens: 64 })
        await again.close()
      }
      expect(grow.mock.calls.length).toBe(after)
    } finally {
      grow.mockRestore()
    }
  })

  for (const [name, closing] of [
    ['closed', 'await engine.close()'],
    ['forgotten', ''],
  ] as const) {
    it(`lets the process end by itself with threads started: engine ${name}`, async () => {
      const script = `
        import { createWasmEngine } from ${JSON.stringify(join(ROOT, 'src/engine/wasm-engine.ts'))}
        import { readWasmKernels, startWasmThread } from ${JSON.stringify(join(ROOT, 'node/wasm-threads.ts'))}
        const engine = await createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 3 })
        ${closing}
      `
      const folder = await mkdtemp(join(tmpdir(), 'chorale-wasm-'))
      const file = join(folder, 'script.ts')
      await writeFile(file, script)
      const ended = promisify(execFile)(process.execPath, [file], { timeout: 20_000 })
      expect(await ended).toEqual({ stdout: '', stderr: '' })
      await rm(folder, { recursive: true })
    })
  }
})
