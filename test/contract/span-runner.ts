import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../src/errors.ts'
import { errorCode } from '../../src/errors.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { concatRows, rows } from '../../src/tensor/tensor.ts'

/** A runner under test and what is known of the machine behind it. */
export interface SpanRunnerSetup {
  readonly runner: SpanRunner
  /** KV room in tokens of the narrowest server: one token more is refused. */
  readonly kvTokens: number
  /** KV tokens free now on the narrowest server, where the test can see it. */
  readonly freeTokens?: () => number
  /** The same runner built afresh, or the same span on other machinery: outputs must be equal bit for bit. */
  readonly close: () => Promise<void>
}

/**
 * What every `SpanRunner` promises, whatever is behind it. Spans need `kvTokens` of 16 to 4096.
 * @param setup makes a runner nobody else uses.
 */
export function spanRunnerContract(name: string, setup: () => Promise<SpanRunnerSetup>): void {
  describe(`SpanRunner contract: ${name}`, () => {
    let under: SpanRunnerSetup
    beforeEach(async () => {
      under = await setup()
    })
    afterEach(async () => {
      await under.close()
    })
    const open = (maxTokens = 12) => under.runner.open({ maxTokens })
    const input = (tokens: number, seed = 1) => someHidden(tokens, under.runner.hiddenSize, seed)

    it('open: position is 0 and the route covers the span', async () => {
      const session = await open()
      expect(session.position).toBe(0)
      const { start, end } = under.runner.span
      expect(session.route.at(0)?.start).toBe(start)
      expect(session.route.at(-1)?.end).toBe(end)
      for (const [i, hop] of session.route.entries()) {
        if (i > 0) expect(hop.start).toBe(session.route[i - 1]?.end)
      }
      await session.close()
    })

    it('step: chunks, single tokens and one prefill give the same bits', async () => {
      const prompt = input(7)
      const outputs: Tensor[] = []
      for (const cuts of [[7], [3, 4], [1, 1, 1, 1, 1, 1, 1]]) {
        const session = await open()
        const parts: Tensor[] = []
        let at = 0
        for (const cut of cuts) {
          parts.push(await session.step(rows(prompt, at, at + cut)))
          at += cut
          expect(session.position).toBe(at)
        }
        outputs.push(concatRows(parts, under.runner.hiddenSize))
        await session.close()
      }
      expect(outputs[0]?.shape).toEqual([7, under.runner.hiddenSize])
      expect(outputs[1]).toEqual(outputs[0])
      expect(outputs[2]).toEqual(outputs[0])
    })

    it('step: what is computed depends on the tokens before', async () => {
      const token = input(1, 9)
      const [a, b] = [await open(), await open()]
      await a.step(input(2, 1))
      await b.step(input(2, 2))
      expect(await a.step(token)).not.toEqual(await b.step(token))
      await Promise.all([a.close(), b.close()])
    })

    it('step: calls that did not wait for each other run in call order', async () => {
      const prompt = input(6)
      const session = await open()
      const waited = await session.step(prompt)
      await session.close()
      const other = await open()
      const parts = await Promise.all([0, 1, 2].map((i) => other.step(rows(prompt, 2 * i, 2 * i + 2))))
      expect(concatRows(parts, under.runner.hiddenSize)).toEqual(waited)
      expect(other.position).toBe(6)
      await other.close()
    })

    it('step: `want` cuts the rows and changes nothing else', async () => {
      const prompt = input(4)
      const session = await open()
      const all = await session.step(prompt)
      await session.rollback(0)
      const none = await session.step(rows(prompt, 0, 2), { want: 'none' })
      expect(none.shape).toEqual([0, under.runner.hiddenSize])
      const last = await session.step(rows(prompt, 2, 4), { want: 'last' })
      expect(last.shape).toEqual([1, under.runner.hiddenSize])
      expect([...last.data]).toEqual([...rows(all, 3, 4).data])
      expect(session.position).toBe(4)
      await session.close()
    })

    it('step: sessions do not see each other', async () => {
      const [promptA, promptB] = [input(5, 1), input(5, 2)]
      const alone = await open()
      const expected = await alone.step(promptA)
      await alone.close()
      const [a, b] = [await open(), await open()]
      const parts: Tensor[] = []
      for (let i = 0; i < 5; i++) {
        const [part] = await Promise.all([a.step(rows(promptA, i, i + 1)), b.step(rows(promptB, i, i + 1))])
        parts.push(part)
      }
      expect(concatRows(parts, under.runner.hiddenSize)).toEqual(expected)
      await Promise.all([a.close(), b.close()])
    })

    it('step: past maxTokens fails with capacity, so do the calls behind it, until rollback', async () => {
      const session = await open(4)
      const steps = [session.step(input(3)), session.step(input(2)), session.step(input(1))]
      const settled = await Promise.allSettled(steps)
      expect(settled.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'rejected'])
      expect(codeOf(settled[1])).toBe('capacity')
      expect(codeOf(settled[2])).toBe('capacity')
      expect(session.position).toBe(3)
      await session.rollback(3)
      await session.step(input(1))
      expect(session.position).toBe(4)
      await session.close()
    })

    it('step: hidden states of another width fail with bad_request', async () => {
      const session = await open()
      const wide = someHidden(1, under.runner.hiddenSize + 1, 1)
      expect(await failureOf(session.step(wide))).toBe('bad_request')
      await session.close()
    })

    it('rollback: forgets what came after and nothing else', async () => {
      const prompt = input(6)
      const session = await open()
      const first = await session.step(prompt)
      await session.rollback(2)
      expect(session.position).toBe(2)
      const again = await session.step(rows(prompt, 2, 6))
      expect([...again.data]).toEqual([...rows(first, 2, 6).data])
      expect(await failureOf(session.rollback(7))).toBe('bad_request')
      await session.close()
    })

    it('open: more than there is room for fails with capacity; closing frees the room, twice is harmless', async () => {
      expect(await failureOf(open(under.kvTokens + 1))).toBe('capacity')
      const session = await open(under.kvTokens)
      expect(await failureOf(open(under.kvTokens))).toBe('capacity')
      await session.close()
      await session.close()
      await until(() => (under.freeTokens?.() ?? under.kvTokens) === under.kvTokens)
      // A remote server may hear of the goodbye a moment after us.
      const again = await retry(() => open(under.kvTokens))
      await again.close()
    })

    it('cancel: the step and those behind it fail with cancelled, close frees the room', async () => {
      const session = await open()
      const stop = new AbortController()
      const steps = [0, 1, 2].map((seed) => session.step(input(3, seed), { signal: stop.signal }))
      stop.abort()
      const settled = await Promise.allSettled(steps)
      expect(codeOf(settled[2])).toBe('cancelled')
      expect(session.position % 3).toBe(0)
      await session.close()
      await until(() => (under.freeTokens?.() ?? under.kvTokens) === under.kvTokens)
    })

    it('cancel: an aborted signal opens nothing', async () => {
      const opening = under.runner.open({ maxTokens: 4, signal: AbortSignal.abort() })
      expect(await failureOf(opening)).toBe('cancelled')
      await until(() => (under.freeTokens?.() ?? under.kvTokens) === under.kvTokens)
    })

    it('close: a closed session refuses steps', async () => {
      const session = await open()
      await session.close()
      expect(['session_lost', 'cancelled']).toContain(await failureOf(session.step(input(1))))
    })

    it('open: maxTokens must be a positive whole number', async () => {
      for (const maxTokens of [0, -1, 1.5, Number.NaN]) {
        expect(await failureOf(open(maxTokens))).toBe('bad_request')
      }
    })
  })
}

/** Hidden states in [-1, 1) that depend on the seed: small whole multiples of 1/64, exact in every narrow dtype. */
export function someHidden(tokens: number, hiddenSize: number, seed: number): Tensor {
  const data = new Float32Array(tokens * hiddenSize)
  let state = (seed + 1) * 2654435761
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    data[i] = ((state >>> 16) % 128) / 64 - 1
  }
  return { shape: [tokens, hiddenSize], data }
}

/** The code that `work` fails with. */
export async function failureOf(work: Promise<unknown>): Promise<ErrorCode | 'no failure'> {
  try {
    await work
    return 'no failure'
  } catch (error) {
    return errorCode(error)
  }
}

function codeOf(outcome: PromiseSettledResult<unknown> | undefined): ErrorCode | 'no failure' {
  return outcome?.status === 'rejected' ? errorCode(outcome.reason) : 'no failure'
}

/** Polls until `condition` holds. @throws after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not true within ${timeoutMs} ms: ${condition.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

async function retry<T>(attempt: () => Promise<T>, timeoutMs = 5_000): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}
