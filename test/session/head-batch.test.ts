import { describe, expect, it } from 'vitest'
import type { EngineHead } from '../../src/engine/engine.ts'
import { batchHead } from '../../src/session/head-batch.ts'
import { tensor, type Tensor } from '../../src/tensor/tensor.ts'

/** A head whose logits are the hidden values plus one, and that notes the rows of every call. */
function notingHead(calls: number[], fail?: () => boolean): EngineHead {
  return {
    weightBytes: 0,
    finalNorm: async (hidden) => hidden,
    logits: async (hidden) => {
      calls.push(hidden.shape[0])
      await new Promise((resolve) => setImmediate(resolve))
      if (fail?.() === true) throw new Error('the head broke')
      return tensor(
        hidden.shape[0],
        hidden.shape[1],
        hidden.data.map((value) => value + 1),
      )
    },
    close: async () => undefined,
  }
}

function row(value: number, count = 1): Tensor {
  return tensor(count, 2, new Float32Array(count * 2).fill(value))
}

describe('batchHead', () => {
  it('computes waiting rows in one call and gives each caller its own', async () => {
    const calls: number[] = []
    const logits = batchHead(notingHead(calls)).logits
    const answers = await Promise.all([logits(row(1)), logits(row(2, 3)), logits(row(5))])
    expect(answers.map(({ shape, data }) => [shape, [...data]])).toEqual([
      [
        [1, 2],
        [2, 2],
      ],
      [
        [3, 2],
        [3, 3, 3, 3, 3, 3],
      ],
      [
        [1, 2],
        [6, 6],
      ],
    ])
    expect(calls).toEqual([5])
  })

  it('bounds the rows of a call', async () => {
    const calls: number[] = []
    const logits = batchHead(notingHead(calls)).logits
    await Promise.all(Array.from({ length: 70 }, (_, i) => logits(row(i))))
    expect(calls).toEqual([32, 32, 6])
  })

  it('takes one large request though it is over the bound', async () => {
    const calls: number[] = []
    expect((await batchHead(notingHead(calls)).logits(row(1, 50))).shape).toEqual([50, 2])
    expect(calls).toEqual([50])
  })

  it('fails those of a call that failed and goes on with the next', async () => {
    let failures = 1
    const logits = batchHead(notingHead([], () => failures-- > 0)).logits
    await expect(Promise.all([logits(row(1)), logits(row(2))])).rejects.toThrow('the head broke')
    expect([...(await logits(row(3))).data]).toEqual([4, 4])
  })

  it('spares the logits when all that wait want the best alone, and takes it from them otherwise', async () => {
    const calls: string[] = []
    const head: EngineHead = {
      ...notingHead([]),
      logits: async ({ data, shape }) => {
        calls.push(`logits of ${shape[0]}`)
        return tensor(shape[0], 2, data.slice())
      },
      best: async ({ shape }) => {
        calls.push(`best of ${shape[0]}`)
        return new Int32Array(shape[0]).fill(7)
      },
    }
    const batched = batchHead(head)
    const two = (a: number, b: number) => tensor(1, 2, Float32Array.of(a, b))
    expect(await Promise.all([batched.best(two(1, 2)), batched.best(row(0, 2))])).toEqual([
      Int32Array.of(7),
      Int32Array.of(7, 7),
    ])
    const [first, logits, second] = await Promise.all([
      batched.best(two(1, 2)),
      batched.logits(two(3, 4)),
      batched.best(two(Number.NaN, 1)),
    ])
    expect([first, logits.data, second]).toEqual([Int32Array.of(1), Float32Array.of(3, 4), Int32Array.of(-1)])
    expect(calls).toEqual(['best of 3', 'logits of 3'])
    // A head without it gives logits.
    expect(await batchHead(notingHead([])).best(two(5, 4))).toEqual(Int32Array.of(0))
  })
})
