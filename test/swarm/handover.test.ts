import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { checkAudit, compareSession } from '../../src/attest/audit.ts'
import { answerAudit, parseAuditAnswer } from '../../src/attest/audit-messages.ts'
import { createAuditStore } from '../../src/attest/audit-store.ts'
import { checkReceipts } from '../../src/protocol/receipt-check.ts'
import { parseReceipt } from '../../src/protocol/receipts.ts'
import { isHanded, unpackSteps } from '../../src/protocol/step-chain.ts'
import { startServer } from '../../src/server/server.ts'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import type { Span, SpanSession } from '../../src/session/span-runner.ts'
import { verifySignature } from '../../src/swarm/identity.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { noise, relativeError } from '../engine/span-runs.ts'
import { createHandoverSwarm, type HandoverSwarm } from './handover-swarm.ts'
import { loopbackPeer, MODEL_ID, TCP, until } from './loopback.ts'

const SPEC = { ...ODD_SPEC, windows: [null, 20, null] }
const model = randomModel(SPEC, () => 'F32')
const PROMPT = noise(70, SPEC.hiddenSize)

const engines = new Map<string, Engine>()
const engineOf = (name: string): Engine => engines.get(name)!
beforeAll(async () => {
  engines.set('reference', createReferenceEngine())
  engines.set(
    'wasm',
    await createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 1 }),
  )
  engines.set('onnx', await createOnnxEngine({ threads: 1 }))
})
afterAll(async () => {
  for (const engine of engines.values()) await engine.close()
})

let swarm: HandoverSwarm
afterEach(() => swarm.close())

/** The next token's hidden state, out of the last one's: an error anywhere grows. */
function nextOf(output: Tensor): Tensor {
  const [count, columns] = output.shape
  const last = output.data.subarray((count - 1) * columns)
  const largest = last.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return { shape: [1, columns], data: last.map((value) => (2 * value) / largest) }
}

/** A prompt and `count` tokens, each fed by the one before; `between` is called before each. */
async function answer(
  session: SpanSession,
  count: number,
  between: (token: number) => Promise<void> | void = () => undefined,
): Promise<Tensor[]> {
  const outputs = [await session.step(PROMPT, { want: 'last' })]
  for (let token = 0; token < count; token++) {
    await between(token)
    outputs.push(await session.step(nextOf(outputs.at(-1))))
  }
  return outputs
}

async function undisturbed(engine: Engine, count: number): Promise<Tensor[]> {
  const session = await (await swarm.alone(engine)).open({ maxTokens: 200 })
  return await answer(session, count)
}

const failedOver = (count = 1) => until(() => swarm.failovers.length >= count, `${count} failovers`, 10_000)

describe('a server that leaves hands its sessions over', () => {
  it.each(['reference', 'wasm', 'onnx'])(
    '%s: every hidden state is bit for bit that of an undisturbed run, and nothing is computed twice',
    async (name) => {
      swarm = await createHandoverSwarm(model)
      const engine = engineOf(name)
      const expected = await undisturbed(engine, 20)
      const first = await swarm.server({ engine, start: 0, end: 3 })
      const session = await swarm.chain().open({ maxTokens: 200 })
      const second = await swarm.server({ engine, start: 0, end: 3 })
      const outputs = await answer(session, 20, async (token) => {
        if (token !== 5) return
        first.leave()
        await failedOver()
      })
      expect(outputs).toEqual(expected)
      expect(session.route.map(({ peer }) => peer)).toEqual([second.peer.id])
      expect(swarm.failovers).toMatchObject([
        { from: first.peer.id, to: [second.peer.id], handedTokens: 74, reason: 'the server leaves' },
      ])
      // The last token is computed again: its output shows that what came is right.
      expect(second.rows).toBe(1 + 15)
      await session.close()
      await until(() => first.host.load().sessions + second.host.load().sessions === 0, 'sessions end')
    },
  )

  it('in the middle of a chain whose servers push to each other', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('wasm')
    const expected = await undisturbed(engine, 20)
    const serve = (start: number) => swarm.server({ engine, start, end: start + 1 })
    const [, middle] = [await serve(0), await serve(1), await serve(2)]
    const session = await swarm.chain().open({ maxTokens: 200 })
    const fresh = await serve(1)
    const outputs = await answer(session, 20, async (token) => {
      if (token !== 9) return
      middle.leave()
      await failedOver()
    })
    expect(outputs).toEqual(expected)
    expect(swarm.failovers).toMatchObject([{ to: [fresh.peer.id], handedTokens: 78 }])
    expect(fresh.rows).toBe(1 + 11)
    await session.close()
  })

  it('goes to several servers that cut the blocks elsewhere, each fetching its own, and on from there', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('wasm')
    const expected = await undisturbed(engine, 30)
    const whole = await swarm.server({ engine, start: 0, end: 3 })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const head = await swarm.server({ engine, start: 0, end: 1 })
    const tail = await swarm.server({ engine, start: 1, end: 3 })
    let late: Awaited<ReturnType<HandoverSwarm['server']>> | undefined
    const outputs = await answer(session, 30, async (token) => {
      if (token === 5) {
        whole.leave()
        await failedOver()
        expect([head.rows, tail.rows]).toEqual([1, 1])
      } else if (token === 12) {
        // Nobody knows what went into the second span: it comes back together with the first.
        late = await swarm.server({ engine, start: 1, end: 3 })
        await tail.die()
      } else if (token === 20) {
        // One server takes the place of two.
        whole.hidden = false
        const all = await swarm.server({ engine, start: 0, end: 3 })
        whole.hidden = true
        head.leave()
        await failedOver(3)
        expect(session.route.map(({ peer }) => peer)).toEqual([all.peer.id])
        expect(all.rows).toBe(1)
      }
    })
    expect(outputs).toEqual(expected)
    expect(swarm.failovers).toMatchObject([
      { to: [head.peer.id, tail.peer.id], handedTokens: 74 },
      { from: tail.peer.id, to: [head.peer.id, late!.peer.id] },
      { from: head.peer.id, handedTokens: 89 },
    ])
    expect(swarm.failovers[1]!.handedTokens).toBeUndefined()
    await session.close()
  })

  it('a long one goes on decoding, rolling back and drafting while pages travel', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    let laps = 0
    const slow = (span: EngineSpan): EngineSpan =>
      Object.create(span, {
        kvRows: {
          value: {
            ...span.kvRows!,
            read: async (...args: Parameters<NonNullable<EngineSpan['kvRows']>['read']>) => {
              const rows = await span.kvRows!.read(...args)
              // What was read is on its way while the session does all this.
              await until(() => laps >= 6, 'six laps')
              return rows
            },
          },
        },
      })
    const twin = await (await swarm.alone(engine)).open({ maxTokens: 400 })
    const first = await swarm.server({ engine, start: 0, end: 3, around: slow })
    const session = await swarm.chain().open({ maxTokens: 400 })
    await swarm.server({ engine, start: 0, end: 3 })
    const both = async (input: Tensor): Promise<Tensor> => {
      const [output, expected] = [await session.step(input), await twin.step(input)]
      expect(output).toEqual(expected)
      return output
    }
    const rollback = (to: number) => Promise.all([session.rollback(to), twin.rollback(to)])
    let output = await both(PROMPT)
    first.leave()
    while (swarm.failovers.length === 0 && laps < 60) {
      // Guesses, most of which are wrong: what was read of them must not stay.
      await both(noise(5, SPEC.hiddenSize))
      await rollback(session.position - 4)
      output = await both(nextOf(output))
      if (laps === 3) {
        // The question is asked anew.
        await rollback(40)
        output = await both(nextOf(output))
      }
      laps++
    }
    expect(laps).toBeGreaterThanOrEqual(6)
    expect(swarm.failovers[0]!.handedTokens).toBeGreaterThan(0)
    for (let i = 0; i < 10; i++) output = await both(nextOf(output))
    await session.close()
  })

  it('when it is stopped, and when it moves to other blocks', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('wasm')
    const expected = await undisturbed(engine, 24)
    const state = memoryDirectoryState()
    const record = { modelId: MODEL_ID, name: 'random', blockCount: 3, hiddenSize: SPEC.hiddenSize }
    const start = async (span: Span) => {
      const peer = await loopbackPeer({ listen: [TCP] })
      const server = await startServer({
        peer,
        directory: memoryDirectory(state, peer.id),
        model: record,
        span,
        load: (wanted) => engine.loadSpan(model, { ...wanted, kvTokens: 256 }),
        engine: engine.name,
      })
      swarm.onClose(async () => {
        await server.stop(0)
        await peer.close()
      })
      return { peer, server }
    }
    const first = await start({ start: 0, end: 3 })
    const session = await swarm
      .chain({ directory: memoryDirectory(state, swarm.client.id) })
      .open({ maxTokens: 128 })
    let second: Awaited<ReturnType<typeof start>> | undefined
    const outputs = await answer(session, 24, async (token) => {
      if (token === 4) {
        second = await start({ start: 0, end: 3 })
        await first.server.move({ start: 0, end: 1 }, { overlap: true, drainMs: 10_000 })
        await failedOver()
      } else if (token === 14) {
        await start({ start: 1, end: 3 })
        // It leaves when the last of its sessions has gone, not when its patience ends.
        await second!.server.stop(10_000)
        await failedOver(2)
      }
    })
    expect(outputs).toEqual(expected)
    expect(swarm.failovers).toMatchObject([
      { from: first.peer.id, to: [second!.peer.id], handedTokens: 73 },
      { from: second!.peer.id, handedTokens: 83 },
    ])
    expect(session.route.map(({ start: from, end }) => [from, end])).toEqual([
      [0, 1],
      [1, 3],
    ])
    await session.close()
  })

  it('what was handed over is never another session’s beginning', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('wasm')
    const expected = await undisturbed(engine, 10)
    const first = await swarm.server({ engine, start: 0, end: 3 })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const second = await swarm.server({ engine, start: 0, end: 3 })
    await answer(session, 10, async (token) => {
      if (token !== 5) return
      first.leave()
      await failedOver()
    })
    await session.close()
    const before = second.rows
    const other = await swarm.chain().open({ maxTokens: 200 })
    // Whose inputs made the pages, the new server has only the old one's word for.
    expect(await answer(other, 10)).toEqual(expected)
    expect(second.rows - before).toBe(80)
    await other.close()
  })

  it('engines understand each other: the answer goes on within what they differ by', async () => {
    swarm = await createHandoverSwarm(model)
    const expected = await undisturbed(engineOf('wasm'), 8)
    const first = await swarm.server({ engine: engineOf('wasm'), start: 0, end: 3 })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const second = await swarm.server({ engine: engineOf('reference'), start: 0, end: 3 })
    const outputs = await answer(session, 8, async (token) => {
      if (token !== 4) return
      first.leave()
      await failedOver()
    })
    expect(second.rows).toBe(1 + 4)
    for (const [i, output] of outputs.entries()) {
      expect(relativeError(output.data, expected[i]!.data)).toBeLessThan(1e-3)
    }
    await session.close()
  })
})

describe('a history is replayed where a hand-over', () => {
  /** An answer during which the first of two servers leaves; bit for bit the undisturbed one. */
  async function moved(
    options: Partial<Parameters<HandoverSwarm['server']>[0]>,
    second: Partial<Parameters<HandoverSwarm['server']>[0]> = {},
    tokens = 12,
  ) {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    const expected = await undisturbed(engine, tokens)
    const old = await swarm.server({ engine, start: 0, end: 3, ...options })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const fresh = await swarm.server({ engine, start: 0, end: 3, ...second })
    const outputs = await answer(session, tokens, async (token) => {
      if (token !== 3) return
      old.leave()
      await failedOver()
    })
    expect(outputs).toEqual(expected)
    expect(swarm.failovers).toHaveLength(1)
    expect(swarm.failovers[0]!.handedTokens).toBeUndefined()
    expect(fresh.rows).toBeGreaterThanOrEqual(73)
    await session.close()
  }
  /** An engine whose cache is read with some change. */
  const garbled =
    (change: (rows: Float32Array) => Float32Array) =>
    (span: EngineSpan): EngineSpan =>
      Object.create(span, {
        kvRows: {
          value: {
            ...span.kvRows!,
            read: async (...args: Parameters<NonNullable<EngineSpan['kvRows']>['read']>) =>
              change(await span.kvRows!.read(...args)),
          },
        },
      })

  it('is offered by neither or one of the servers', async () => {
    await moved({ handover: false })
    await swarm.close()
    await moved({}, { handover: false })
  })

  it('is between weights of different precision', async () => {
    await moved({ record: { precision: 'q4' } })
  })

  it('would take longer over a line that is known to be slow', async () => {
    await moved({ record: { bandwidth: 100 } }, { record: { prefillThroughput: 1_000 } })
  })

  it('gives other keys and values than the old server computed with, one sign in one of them', async () => {
    await moved({
      around: garbled((rows) => {
        rows[8] = -rows[8]! || 1
        return rows
      }),
    })
  })

  it('gives numbers that are none', async () => {
    await moved({ around: garbled((rows) => rows.fill(Number.NaN)) })
  })

  it('fails at the old server', async () => {
    await moved({
      around: garbled(() => {
        throw new Error('device lost')
      }),
    })
  })

  it('ends with the old server, killed while pages travel', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    const expected = await undisturbed(engine, 12)
    const reading = Promise.withResolvers<void>()
    const old = await swarm.server({
      engine,
      start: 0,
      end: 3,
      around: garbled((rows) => {
        reading.resolve()
        return rows
      }),
    })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const fresh = await swarm.server({ engine, start: 0, end: 3 })
    const outputs = await answer(session, 12, async (token) => {
      if (token !== 3) return
      old.leave()
      await reading.promise
      await old.die()
    })
    expect(outputs).toEqual(expected)
    expect(session.route.map(({ peer }) => peer)).toEqual([fresh.peer.id])
    await session.close()
    await until(() => fresh.host.load().sessions === 0, 'nothing is left of it')
  })

  it('goes on only in part: what came is kept, the rest is computed', async () => {
    let reads = 0
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    const expected = await undisturbed(engine, 6)
    const old = await swarm.server({
      engine,
      start: 0,
      end: 3,
      around: garbled((rows) => {
        if (++reads > 1) throw new Error('device lost')
        return rows
      }),
    })
    // One part holds 16 tokens at the least: these are a multiple of that.
    const session = await swarm.chain().open({ maxTokens: 200 })
    const fresh = await swarm.server({ engine, start: 0, end: 3 })
    const outputs = await answer(session, 6, async (token) => {
      if (token !== 3) return
      reads = 0
      old.leave()
      await failedOver()
    })
    expect(outputs).toEqual(expected)
    expect(fresh.rows).toBeLessThan(76)
    await session.close()
  })
})

describe('receipts of a session that was handed over', () => {
  it('hold at both ends, name what was handed over, and count only what each server computed', async () => {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    const first = await swarm.server({ engine, start: 0, end: 3 })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const second = await swarm.server({ engine, start: 0, end: 3 })
    await answer(session, 20, async (token) => {
      if (token !== 5) return
      first.leave()
      await failedOver()
    })
    await session.close()
    const entries = async () => [
      ...(await first.peer.receipts!.entries()),
      ...(await second.peer.receipts!.entries()),
      ...(await swarm.client.receipts!.entries()),
    ]
    const finals = (all: Awaited<ReturnType<typeof entries>>) =>
      all.filter((entry) => parseReceipt(entry).receipt.final).length
    await until(async () => finals(await entries()) === 4, 'final receipts of both servers, at both ends')
    const report = await checkReceipts(await entries(), verifySignature)
    expect(report.problems).toEqual([])
    const of = (peer: string) => report.sessions.find(({ server }) => server === peer)
    expect(of(first.peer.id)).toMatchObject({ complete: true, prefilled: 70, decoded: 5 })
    // The token that shows whether what came is right, and the fifteen that were left.
    expect(of(second.peer.id)).toMatchObject({ complete: true, prefilled: 0, decoded: 16 })
    const steps = (await second.peer.receipts!.entries()).flatMap((entry) => unpackSteps(entry.steps))
    expect(steps.filter(isHanded)).toMatchObject([{ position: 0, tokens: 74 }])
    expect(steps.find((step) => !isHanded(step))).toMatchObject({ position: 74, tokens: 1 })
    const before = (await first.peer.receipts!.entries()).flatMap((entry) => unpackSteps(entry.steps))
    // The same input, and the same output: what the new server goes on from is what the old one signed.
    const { input, output } = before.find(({ position, tokens }) => position === 74 && tokens === 1)!
    expect(steps.find((step) => !isHanded(step))).toMatchObject({ input, output })
  })
})

describe('an accountant of a session that was handed over', () => {
  /** A session that moves in the middle, whose servers keep evidence; what each of them shows of it. */
  async function audited(around: (span: EngineSpan) => EngineSpan = (span) => span) {
    swarm = await createHandoverSwarm(model)
    const engine = engineOf('reference')
    const stores = [createAuditStore(), createAuditStore()] as const
    const first = await swarm.server({ engine, start: 0, end: 3, tap: stores[0], around })
    const session = await swarm.chain().open({ maxTokens: 200 })
    const second = await swarm.server({ engine, start: 0, end: 3, tap: stores[1] })
    await answer(session, 12, async (token) => {
      if (token === 5) {
        // Guesses that were wrong are no part of what is handed over.
        await session.step(noise(5, SPEC.hiddenSize))
        await session.rollback(session.position - 5)
      }
      if (token !== 6) return
      first.leave()
      await failedOver()
    })
    await session.close()
    expect(swarm.failovers[0]!.handedTokens).toBeGreaterThan(0)
    const runner = await swarm.alone(engine)
    return await Promise.all(
      stores.map(async (store) => {
        const [id] = store.sessions()
        const last = () => store.get(id!)!.receipts.at(-1)
        await until(() => {
          const receipt = last()
          return receipt !== undefined && parseReceipt(receipt).receipt.final
        }, 'the final receipt')
        const audit = parseAuditAnswer(answerAudit({ session: id!, through: 99 }, store))
        const checked = await checkAudit(audit, verifySignature)
        return { checked, comparison: await compareSession(checked, runner, () => 1e-6) }
      }),
    ).then(([old, fresh]) => ({ old: old!, fresh: fresh!, second }))
  }

  it('re-runs it from what went in, which comes with the keys and values, to the last bit', async () => {
    const { old, fresh, second } = await audited()
    expect(old.comparison).toMatchObject({ worst: { error: 0 } })
    expect(fresh.comparison).toMatchObject({ worst: { error: 0 } })
    expect(fresh.comparison.rows).toBe(1 + 6)
    expect(fresh.checked.evidence).toMatchObject({ server: second.peer.id, complete: true, prefilled: 0 })
    expect(fresh.checked.steps[0]).toMatchObject({ position: 0, handed: true })
  })

  it('finds the fault at the server that made it, not at the one that was handed it', async () => {
    const lies = (span: EngineSpan): EngineSpan =>
      Object.create(span, {
        step: {
          value: async (entries: Parameters<EngineSpan['step']>[0]) =>
            // Reads another prompt than it was given, and goes on from there as it should.
            await span.step(
              entries.map(({ lease, hidden }) => ({
                lease,
                hidden: {
                  shape: hidden.shape,
                  data: hidden.shape[0] > 1 ? hidden.data.map((value) => value * 1.5) : hidden.data,
                },
              })),
            ),
        },
      })
    const { old, fresh } = await audited(lies)
    expect(old.comparison.worst!.error).toBeGreaterThan(0.01)
    expect(old.comparison.handedWrong).toBeUndefined()
    expect(fresh.comparison).toMatchObject({ rows: 0, worst: undefined, handedWrong: true })
  })
})
