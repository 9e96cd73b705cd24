import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { concatRows, rows, type Tensor } from '../../src/tensor/tensor.ts'
import { FAMILY_SPECS } from './family-specs.ts'
import { noise, ones, relativeError, runCut } from './span-runs.ts'
import { randomModel } from './random-model.ts'

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

for (const [name, spec] of Object.entries(FAMILY_SPECS)) {
  describe(`onnx engine: ${name}`, () => {
    const model = randomModel(spec, () => 'F32')
    const end = spec.blockCount

    it('agrees with the reference engine to 1e-5', async () => {
      const hidden = noise(75, spec.hiddenSize)
      const outputs: Tensor[] = []
      for (const each of [createReferenceEngine(), engine]) {
        const span = await each.loadSpan(model, { start: 0, end, kvTokens: 96 })
        const head = await each.loadHead(model)
        const out = await runCut(span, hidden, [20, 1])
        outputs.push(concatRows([out, await head.finalNorm(out)], spec.hiddenSize), await head.logits(out))
        await span.close()
        await head.close()
      }
      const [wantedStates, wantedLogits, states, logits] = outputs as [Tensor, Tensor, Tensor, Tensor]
      expect(relativeError(states.data, wantedStates.data)).toBeLessThan(1e-5)
      expect(relativeError(logits.data, wantedLogits.data)).toBeLessThan(1e-5)
    })

    it('gives the same bits in one prefill, in chunks, one by one, in a batch and on two threads', async () => {
      const count = 140
      const hidden = noise(count, spec.hiddenSize)
      const span = await engine.loadSpan(model, { start: 0, end, kvTokens: 2 * count })
      const other = await threaded.loadSpan(model, { start: 0, end, kvTokens: count })
      const wanted = await runCut(span, hidden, [])
      for (const cuts of [
        ones(count),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [65, 1],
        [count - 1],
        [63, 1, 1, 1],
      ]) {
        expect((await runCut(span, hidden, cuts)).data).toEqual(wanted.data)
      }
      for (const cuts of [[], [17, 1, 1, 50]]) {
        expect((await runCut(other, hidden, cuts)).data).toEqual(wanted.data)
      }
      const [first, second] = [span.lease(30), span.lease(count)]
      await span.step([
        { lease: first, hidden: rows(hidden, 0, 29) },
        { lease: second, hidden: rows(hidden, 0, 11) },
      ])
      const [one, rest] = await span.step([
        { lease: first, hidden: rows(hidden, 29, 30) },
        { lease: second, hidden: rows(hidden, 11, count) },
      ])
      expect((one as Tensor).data).toEqual(rows(wanted, 29, 30).data)
      expect((rest as Tensor).data).toEqual(rows(wanted, 11, count).data)
      await span.close()
      await other.close()
    })
  })
}
