import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine, defaultThreads } from '../../src/engine/onnx-engine.ts'
import { ORT_VERSION } from '../../src/engine/onnx/ort-wasm.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { concatRows, rows, type Tensor } from '../../src/tensor/tensor.ts'
import { noise, ones, relativeError, runCut } from './span-runs.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'

const ROOT = join(import.meta.dirname, '../..')

/** SmolLM2-135M's shape with few blocks and a small vocabulary. */
const SMOL_SPEC: ModelSpec = {
  ...ODD_SPEC,
  hiddenSize: 576,
  blockCount: 2,
  headCount: 9,
  kvHeadCount: 3,
  headDim: 64,
  intermediateSize: 1536,
  positions: {
    kind: 'rope',
    rotaryDim: 64,
    inverseFrequencies: Array.from({ length: 32 }, (_, index) => 100_000 ** (-index / 32)),
    attentionFactor: 1,
  },
  biases: { qkv: false, attentionOut: false, mlp: false },
}
/** Rotates a part of each head only, every head has its own keys, wide heads. */
const PARTIAL_SPEC: ModelSpec = {
  ...ODD_SPEC,
  headCount: 3,
  kvHeadCount: 3,
  headDim: 99,
  positions: {
    kind: 'rope',
    rotaryDim: 24,
    inverseFrequencies: Array.from({ length: 12 }, (_, i) => 0.6 ** i),
    attentionFactor: 0.9,
  },
}
/** Cheap for each token. */
const LONG_SPEC: ModelSpec = {
  ...SMOL_SPEC,
  hiddenSize: 33,
  headCount: 2,
  kvHeadCount: 1,
  intermediateSize: 20,
}

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

describe('onnx engine on odd shapes', () => {
  for (const [name, spec] of [
    ['odd', ODD_SPEC],
    ['partially rotated', PARTIAL_SPEC],
  ] as const) {
    it(`agrees with the reference engine to 1e-5: ${name}`, async () => {
      const model = randomModel(spec, () => 'F32')
      const hidden = noise(21, spec.hiddenSize)
      const outputs: Tensor[] = []
      for (const each of [createReferenceEngine(), engine]) {
        const span = await each.loadSpan(model, { start: 0, end: spec.blockCount, kvTokens: 32 })
        const head = await each.loadHead(model)
        const out = await runCut(span, hidden, [9, 1, 11])
        outputs.push(concatRows([out, await head.finalNorm(out)], spec.hiddenSize), await head.logits(out))
        await span.close()
        await head.close()
      }
      const [wantedStates, wantedLogits, states, logits] = outputs as [Tensor, Tensor, Tensor, Tensor]
      expect(relativeError(states.data, wantedStates.data)).toBeLessThan(1e-5)
      expect(relativeError(logits.data, wantedLogits.data)).toBeLessThan(1e-5)
    })
  }
})

describe('onnx engine invariance', () => {
  for (const [name, spec, count] of [
    ['odd', ODD_SPEC, 150],
    ['partially rotated', PARTIAL_SPEC, 150],
    ['SmolLM2', SMOL_SPEC, 110],
    ['long context', LONG_SPEC, 530],
  ] as const) {
    it(`gives the same bits in one prefill, in chunks and one by one: ${name}`, async () => {
      const model = randomModel(spec, () => 'F32')
      const hidden = noise(count, spec.hiddenSize)
      const span = await engine.loadSpan(model, { start: 0, end: spec.blockCount, kvTokens: count })
      const wanted = await runCut(span, hidden, [count])
      for (const cuts of [
        ones(count),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, count - 105],
        [65, 1, count - 66],
        [count - 1, 1],
        [count - 5, ...ones(5)],
      ]) {
        expect((await runCut(span, hidden, cuts)).data).toEqual(wanted.data)
      }
      await span.close()
    })
  }

  it('gives the same bits with one thread and two', async () => {
    const model = randomModel(SMOL_SPEC, () => 'F32')
    const hidden = noise(80, SMOL_SPEC.hiddenSize)
    const outputs: Tensor[] = []
    for (const each of [engine, threaded]) {
      const span = await each.loadSpan(model, { start: 0, end: 2, kvTokens: 128 })
      outputs.push(await runCut(span, hidden, [70, 1, 9]), await runCut(span, hidden, [80]))
      await span.close()
    }
    for (const output of outputs) expect(output.data).toEqual(outputs[0]?.data)
  })

  it('gives a session the same bits whatever else is in the step, the cache or the memory before it', async () => {
    const model = randomModel(ODD_SPEC, () => 'F16')
    const hidden = noise(12, ODD_SPEC.hiddenSize)
    const span = await engine.loadSpan(model, { start: 0, end: 3, kvTokens: 64 })
    const wanted = await runCut(span, hidden, [12])
    const other = span.lease(20)
    await span.step([{ lease: other, hidden: noise(20, ODD_SPEC.hiddenSize) }])
    other.rollback(3)
    const lease = span.lease(12)
    const [first] = await span.step([
      { lease, hidden: rows(hidden, 0, 7) },
      { lease: other, hidden },
    ])
    const [, second] = await span.step([
      { lease: other, hidden: rows(hidden, 0, 2) },
      { lease, hidden: rows(hidden, 7, 12) },
    ])
    expect(concatRows([first as Tensor, second as Tensor], ODD_SPEC.hiddenSize).data).toEqual(wanted.data)
    await span.close()
  })

  it('gives each row of logits the same bits alone and among others', async () => {
    const model = randomModel(ODD_SPEC, () => 'F32')
    const hidden = noise(40, ODD_SPEC.hiddenSize)
    const head = await engine.loadHead(model)
    const all = await head.logits(hidden)
    for (const row of [0, 17, 39]) {
      expect((await head.logits(rows(hidden, row, row + 1))).data).toEqual(rows(all, row, row + 1).data)
    }
    await head.close()
  })
})

describe('onnx engine KV leases', () => {
  const model = randomModel(ODD_SPEC, () => 'F32')
  const hidden = noise(8, ODD_SPEC.hiddenSize)
  const load = async (kvTokens: number) => await engine.loadSpan(model, { start: 0, end: 2, kvTokens })

  it('recomputes the same bits after a rollback', async () => {
    const span = await load(16)
    const lease = span.lease(16)
    const [first] = await span.step([{ lease, hidden }])
    lease.rollback(3)
    expect(lease.position).toBe(3)
    const [again] = await span.step([{ lease, hidden: rows(hidden, 3, 8) }])
    expect((again as Tensor).data).toEqual(rows(first as Tensor, 3, 8).data)
    expect(() => lease.rollback(9)).toThrow(/holds 8/)
    await span.close()
  })

  it('refuses a lease and a step that do not fit, and computes nothing then', async () => {
    const span = await load(16)
    const lease = span.lease(10)
    expect(span.kvTokensFree).toBe(6)
    expect(() => span.lease(7)).toThrow(expect.objectContaining({ code: 'capacity' }))
    const other = span.lease(6)
    await span.step([{ lease, hidden }])
    await expect(
      span.step([
        { lease: other, hidden: rows(hidden, 0, 1) },
        { lease, hidden },
      ]),
    ).rejects.toMatchObject({
      code: 'capacity',
    })
    expect([lease.position, other.position]).toEqual([8, 0])
    lease.release()
    lease.release()
    expect(span.kvTokensFree).toBe(10)
    await expect(span.step([{ lease, hidden }])).rejects.toMatchObject({ code: 'bad_request' })
    await span.close()
  })

  it('fills a lease to its last token one by one and keeps its neighbours', async () => {
    const span = await load(24)
    const leases = [span.lease(8), span.lease(8), span.lease(8)]
    const outputs = leases.map(() => [] as Tensor[])
    for (let token = 0; token < 8; token++) {
      const out = await span.step(leases.map((lease) => ({ lease, hidden: rows(hidden, token, token + 1) })))
      out.forEach((part, index) => outputs[index]?.push(part))
    }
    for (const parts of outputs) expect(parts).toEqual(outputs[0])
    await span.close()
  })

  it('moves sessions together when free room lies in pieces', async () => {
    const span = await load(24)
    const whole = await runCut(span, hidden, [8])
    const gap = span.lease(8)
    const kept = span.lease(8)
    const [first] = await span.step([{ lease: kept, hidden: rows(hidden, 0, 5) }])
    gap.release()
    const large = span.lease(16)
    const [second] = await span.step([{ lease: kept, hidden: rows(hidden, 5, 8) }])
    expect(concatRows([first as Tensor, second as Tensor], ODD_SPEC.hiddenSize).data).toEqual(whole.data)
    expect(large.maxTokens).toBe(16)
    await span.close()
  })

  it('refuses hidden states of another size, leases of another span and doubled leases', async () => {
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
  })
})

describe('onnx engine loading', () => {
  const model = randomModel(ODD_SPEC, () => 'F32')

  it('reports progress and stops when aborted', async () => {
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
    expect(seen).toEqual([1 / 3])
  })

  it('refuses what WebAssembly can not address, before reading any weight', async () => {
    const unread = { ...model, weights: { ...model.weights, block: () => expect.unreachable() } }
    await expect(engine.loadSpan(unread, { start: 0, end: 3, kvTokens: 20_000_000 })).rejects.toMatchObject({
      code: 'capacity',
    })
    await expect(engine.loadSpan(model, { start: 1, end: 4, kvTokens: 8 })).rejects.toMatchObject({
      code: 'bad_request',
    })
  })

  it('refuses rotated elements that do not pair up, and senseless threads', async () => {
    const odd = randomModel(
      { ...ODD_SPEC, positions: { ...ODD_SPEC.positions, rotaryDim: 12 } as ModelSpec['positions'] },
      () => 'F32',
    )
    await expect(engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 8 })).rejects.toMatchObject({
      code: 'not_supported',
    })
    await expect(createOnnxEngine({ threads: 0 })).rejects.toMatchObject({ code: 'bad_config' })
    expect([1, 2, 8].map(defaultThreads)).toEqual([1, 2, 4])
  })

  it('is the onnxruntime-web version its calls were written for', async () => {
    const text = await readFile(join(ROOT, 'node_modules/onnxruntime-web/package.json'), 'utf8')
    expect(JSON.parse(text)).toMatchObject({ version: ORT_VERSION })
    expect(threaded.description).toBe(`onnxruntime-web ${ORT_VERSION} WASM, float32, 2 threads`)
    expect(threaded.threads).toBe(2)
  })

  it('lets the process end by itself with workers started', async () => {
    const script = `
      import { createOnnxEngine } from ${JSON.stringify(join(ROOT, 'src/engine/onnx-engine.ts'))}
      const engine = await createOnnxEngine({ threads: 2 })
      await engine.close()
    `
    const folder = await mkdtemp(join(tmpdir(), 'chorale-onnx-'))
    const file = join(folder, 'script.ts')
    await writeFile(file, script)
    const ended = promisify(execFile)(process.execPath, [file], { timeout: 20_000 })
    expect(await ended).toEqual({ stdout: '', stderr: '' })
    await rm(folder, { recursive: true })
  })
})
