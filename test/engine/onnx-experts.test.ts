import { describe, expect, it } from 'vitest'
import { biasCount, biasValues, rowsWithBias, writeBias } from '../../src/engine/onnx/alibi-bias.ts'
import { addExperts } from '../../src/engine/onnx/experts.ts'
import { headLayout } from '../../src/engine/onnx/head-layout.ts'
import { createOrtRuntime, type OrtSession } from '../../src/engine/onnx/ort-runtime.ts'
import { RUN_ROWS, runShape } from '../../src/engine/onnx/run-shape.ts'
import { alibiBias, alibiSlopes, roundToBfloat16 } from '../../src/model/alibi.ts'
import type { AlibiSpec, ModelSpec } from '../../src/model/spec.ts'
import { ODD_SPEC } from './random-model.ts'

describe('addExperts', () => {
  it('runs only experts that a row chose, each with its own rows, and adds their weighted results', async () => {
    const runtime = await createOrtRuntime(1)
    const spec: ModelSpec = {
      ...ODD_SPEC,
      hiddenSize: 2,
      mlp: { kind: 'moe', expertCount: 4, topK: 2, normalizeTopK: true },
    }
    const place = (values: readonly number[]): number => {
      const address = runtime.allocate(values.length * 4)
      runtime.floats(address, values.length).set(values)
      return address
    }
    const seen: (readonly [expert: number, rows: readonly number[]])[] = []
    /** Expert e multiplies by 10^e. */
    const experts = [0, 1, 2, 3].map((expert): OrtSession => ({
      run([input], [output]) {
        const size = (input?.shape[0] ?? 0) * 2
        const rows = [...runtime.floats(input?.address ?? 0, size)]
        seen.push([expert, rows])
        runtime.floats(output?.address ?? 0, size).set(rows.map((value) => value * 10 ** expert))
      },
      close: () => undefined,
    }))
    const ln3 = Math.log(3)
    const buffers = {
      normed: place([1, 2, 3, 4, 5, 6]),
      router: place([ln3, -9, 0, -9, 0, 0, 0, 0, -9, -9, 0, ln3]),
      rows: place(Array.from({ length: 12 }, () => 0)),
    }
    const out = place([100, 100, 100, 100, 100, 100])
    addExperts(runtime, spec, experts, buffers, 3, out)
    expect(seen).toEqual([
      [0, [1, 2, 3, 4]],
      [1, [3, 4]],
      [2, [1, 2, 5, 6]],
      [3, [5, 6]],
    ])
    const weighted = [
      [1 * 0.75 + 100 * 0.25, 2 * 0.75 + 200 * 0.25],
      [3 * 0.5 + 30 * 0.5, 4 * 0.5 + 40 * 0.5],
      [500 * 0.25 + 5000 * 0.75, 600 * 0.25 + 6000 * 0.75],
    ].flat()
    expect([...runtime.floats(out, 6)]).toEqual(weighted.map((value) => expect.closeTo(100 + value, 2)))
  })
})

describe('writeBias', () => {
  const alibi: AlibiSpec = {
    kind: 'alibi',
    slopes: alibiSlopes(6).map(roundToBfloat16),
    scaledByHeadDim: true,
    roundedBias: true,
  }
  const spec: ModelSpec = { ...ODD_SPEC, positions: alibi }

  it('gives every row the family bias up to a number of its own, at all positions', () => {
    const shape = runShape(headLayout(spec), 1021, 3)
    const out = new Float32Array(biasCount(spec, shape))
    writeBias(spec, shape, out)
    expect(out.length).toBe(6 * 3 * 1024)
    for (const head of [0, 5]) {
      for (const row of [0, 2]) {
        for (const j of [0, 1, 300, 1021]) {
          const wanted = (alibiBias(alibi, head, j) - alibiBias(alibi, head, 1021 + row)) / Math.sqrt(10)
          expect(out[(head * 3 + row) * 1024 + j]).toBe(Math.fround(wanted))
        }
      }
    }
  })

  it('never writes past its buffer: runs over long contexts take fewer rows', () => {
    for (const headDim of [8, 128, 256]) {
      for (const headCount of [1, 6, 112]) {
        for (const longest of [1, 3, 64, 100, 2048, 70_000]) {
          const long = { ...spec, headDim, headCount }
          const layout = headLayout(long)
          const room = biasValues(long, layout, Math.max(longest + 1, runShape(layout, 0, 1).total))
          let position = 0
          let most = 0
          while (position < longest) {
            const rows = rowsWithBias(long, position, Math.min(RUN_ROWS, longest - position))
            most = Math.max(most, biasCount(long, runShape(layout, position, rows)))
            position += rows
          }
          expect(most).toBeGreaterThan(0)
          expect(most).toBeLessThanOrEqual(room)
        }
      }
    }
    expect(biasValues(ODD_SPEC, headLayout(ODD_SPEC), 1000)).toBe(0)
  })
})
