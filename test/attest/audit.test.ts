import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { planAudits, runAudit, type AuditPorts, encodeFindings } from '../../src/attest/accounting.ts'
import { checkAudit, compareSession, isHonest } from '../../src/attest/audit.ts'
import {
  answerAudit,
  encodeAuditAnswer,
  encodeAuditRequest,
  MAX_AUDIT_BYTES,
  parseAuditAnswer,
  parseAuditRequest,
} from '../../src/attest/audit-messages.ts'
import { createAuditStore } from '../../src/attest/audit-store.ts'
import { type OpenReport, openReport } from '../../src/attest/epoch-report.ts'
import {
  encodeFaultProof,
  type FaultJudge,
  type FaultProof,
  parseFaultProof,
  verifyFaultProof,
} from '../../src/attest/fault-proof.ts'
import { openWorkProof, type WorkReceipt } from '../../src/attest/work-receipt.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { isChoraleError } from '../../src/errors.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { rows } from '../../src/tensor/tensor.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { noise } from '../engine/span-runs.ts'
import { computeSteps, type Peer, peer, report, type SignedSession, signSession, verify } from './peers.ts'

const MODEL = randomModel(ODD_SPEC, () => 'F32')
const SPAN = { modelId: MODEL.id, start: 0, end: ODD_SPEC.blockCount }
const INPUTS = [0, 6, 7, 8, 9].map((from, i, all) =>
  rows(noise(10, ODD_SPEC.hiddenSize), from, all[i + 1] ?? 10),
)

async function loadRunner(): Promise<SpanRunner> {
  const span = await createReferenceEngine().loadSpan(MODEL, { ...SPAN, kvTokens: 64 })
  return createLocalSpan(span, {
    modelId: MODEL.id,
    hiddenSize: ODD_SPEC.hiddenSize,
    engineName: 'reference',
  })
}

const judge: FaultJudge = {
  verify,
  loadSpan: async () => {
    const runner = await loadRunner()
    return { runner, compute: 'float32', close: () => runner.close() }
  },
}

let server: Peer
let client: Peer
let runner: SpanRunner
let honest: SignedSession
let lying: SignedSession
/** Nudges step 3 by 2 % of its largest value. */
const spoil = (output: Float32Array, seq: number) => {
  if (seq === 3) output[5]! += 0.02 * output.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
}

beforeAll(async () => {
  server = await peer(1)
  client = await peer(2)
  runner = await loadRunner()
  const script = { server, client, ...SPAN, issuedAt: 1_000, perReceipt: 2 }
  honest = await signSession({ ...script, id: 1 }, await computeSteps(runner, INPUTS))
  lying = await signSession({ ...script, id: 2 }, await computeSteps(runner, INPUTS, 'f32', spoil))
})
afterAll(async () => {
  await runner.close()
})

function storeOf({ session, opening, receipts, steps }: SignedSession) {
  const store = createAuditStore()
  store.open(session, opening)
  for (const step of steps) store.step(session, step)
  // Agreements arrive late and out of order.
  for (const receipt of receipts.toReversed()) store.receipt(receipt)
  return store
}

const answerOf = (signed: SignedSession, through = 99) =>
  answerAudit({ session: signed.session, through }, storeOf(signed))

describe('checkAudit and compareSession', () => {
  it('clear an honest server, to the last bit where the engine is the same', async () => {
    const checked = await checkAudit(parseAuditAnswer(answerOf(honest)), verify)
    expect(checked.evidence).toMatchObject({
      complete: true,
      prefilled: 6,
      decoded: 4,
      server: server.peerId,
    })
    const comparison = await compareSession(checked, runner, () => 0)
    expect(comparison).toMatchObject({ steps: 5, rows: 10, worst: { error: 0 } })
    expect(isHonest(comparison)).toBe(true)
  })

  it('convict a server that changed one value by 2 %, and name the step', async () => {
    const checked = await checkAudit(parseAuditAnswer(answerOf(lying)), verify)
    const comparison = await compareSession(checked, runner, () => 1e-3)
    expect(comparison.worst).toMatchObject({ seq: 3, margin: 1e-3 })
    expect(comparison.worst!.error).toBeCloseTo(0.02, 3)
    expect(isHonest(comparison)).toBe(false)
  })

  it('take the first steps alone when asked, chained to the last receipt', async () => {
    const checked = await checkAudit(parseAuditAnswer(answerOf(honest, 0)), verify)
    expect(checked.steps.map(({ seq }) => seq)).toEqual([0, 1])
    expect((await compareSession(checked, runner, () => 0)).rows).toBe(7)
  })

  it('follow rollbacks, and outputs of the last row only', async () => {
    const [first, second] = await computeSteps(runner, INPUTS)
    const size = ODD_SPEC.hiddenSize * 4
    const again = { ...second!, seq: 2 }
    const back = { seq: 1, position: 6, tokens: 0, input: new Uint8Array(), output: new Uint8Array() }
    const steps = [{ ...first!, output: first!.output.slice(-size) }, back, again, { ...second!, seq: 3 }]
    const script = { server, client, ...SPAN, issuedAt: 1_000, id: 3 }
    const signed = await signSession(script, steps)
    const checked = await checkAudit(parseAuditAnswer(answerOf(signed)), verify)
    expect(await compareSession(checked, runner, () => 0)).toMatchObject({ rows: 3, worst: { error: 0 } })
  })

  it('compare half-width rows by the format of the opening', async () => {
    const steps = await computeSteps(runner, INPUTS, 'bf16')
    const signed = await signSession({ server, client, ...SPAN, issuedAt: 1, id: 4, dtype: 'bf16' }, steps)
    const checked = await checkAudit(parseAuditAnswer(answerOf(signed)), verify)
    const { worst } = await compareSession(checked, runner, (dtype) => (dtype === 'bf16' ? 2 ** -6 : 0))
    expect(worst!.error).toBeGreaterThan(0)
    expect(worst!.error).toBeLessThan(2 ** -6)
  })

  it.each([
    ['an input that was not signed', 'input', (a: Answer) => (a.steps[1]!.input[0]! ^= 1)],
    ['an output that was not signed', 'output', (a: Answer) => (a.steps[4]!.output[9]! ^= 1)],
    ['a receipt left out', 'receipts', (a: Answer) => a.receipts.pop()],
    ['a changed digest', 'chain', (a: Answer) => (a.receipts[1]!.steps[20]! ^= 1)],
    ['a changed receipt', 'signature', (a: Answer) => (a.receipts[1]!.signed[40]! ^= 1)],
    ['a changed opening', undefined, (a: Answer) => (a.opening[30]! ^= 1)],
    ['steps that no receipt names', 'data', (a: Answer) => a.steps.push(a.steps[0]!)],
  ])('refuse %s', async (_, field, change) => {
    const parsed = parseAuditAnswer(answerOf(honest).slice())
    const answer: Answer = { ...parsed, receipts: [...parsed.receipts], steps: [...parsed.steps] }
    change(answer)
    await expect(checkAudit(answer, verify)).rejects.toMatchObject({
      code: 'protocol',
      ...(field !== undefined && field !== 'signature' && { field }),
    })
  })
})

type Answer = {
  opening: Uint8Array
  receipts: ReturnType<typeof parseAuditAnswer>['receipts'][number][]
  steps: ReturnType<typeof parseAuditAnswer>['steps'][number][]
}

describe('createAuditStore', () => {
  const step = (seq: number, size: number) => ({
    seq,
    position: seq,
    tokens: 1,
    input: new Uint8Array(size),
    output: new Uint8Array(size),
  })

  it('drops the oldest sessions when it is full, and no step of the newest', () => {
    const store = createAuditStore({ maxBytes: 1_000, maxSessionBytes: 600 })
    for (const session of ['a', 'b', 'c']) {
      store.open(session, new Uint8Array())
      store.step(session, step(0, 200))
      expect(store.bytes).toBeLessThanOrEqual(1_000)
    }
    expect([store.get('a'), store.get('b')?.steps.length, store.get('c')?.steps.length]).toEqual([
      undefined,
      1,
      1,
    ])
  })

  it('keeps the beginning of a session that grows too long', () => {
    const store = createAuditStore({ maxBytes: 1_000, maxSessionBytes: 600 })
    store.open('a', new Uint8Array())
    for (let seq = 0; seq < 5; seq++) store.step('a', step(seq, 150))
    expect(store.get('a')).toMatchObject({ complete: false, steps: [{ seq: 0 }, { seq: 1 }] })
    expect(store.bytes).toBe(600)
  })

  it('keeps at most 1,024 sessions, however small', () => {
    const store = createAuditStore()
    for (let i = 0; i < 1_500; i++) store.open(`${i}`, new Uint8Array())
    expect([store.get('475'), store.get('476')]).toEqual([undefined, expect.anything()])
  })
})

describe('answerAudit', () => {
  it.each([
    ['a session that is gone', () => createAuditStore(), /not kept/],
    [
      'a session without receipts',
      () => {
        const store = createAuditStore()
        store.open(honest.session, honest.opening)
        return store
      },
      /no receipts/,
    ],
    [
      'a session longer than what is kept',
      () => {
        const store = createAuditStore({ maxSessionBytes: 2_500 })
        store.open(honest.session, honest.opening)
        for (const step of honest.steps) store.step(honest.session, step)
        for (const receipt of honest.receipts) store.receipt(receipt)
        return store
      },
      /longer/,
    ],
  ])('says why it shows nothing: %s', (_, makeStore, reason) => {
    const bytes = answerAudit({ session: honest.session, through: 9 }, makeStore())
    expect(() => parseAuditAnswer(bytes)).toThrow(expect.objectContaining({ code: 'not_found' }))
    expect(() => parseAuditAnswer(bytes)).toThrow(reason)
  })
})

describe('audit messages', () => {
  it('read back what they write', () => {
    const request = { session: honest.session, through: 7 }
    expect(parseAuditRequest(encodeAuditRequest(request))).toEqual(request)
    const bytes = answerOf(honest)
    expect(encodeAuditAnswer(parseAuditAnswer(bytes))).toEqual(bytes)
  })

  it('read or refuse whatever bytes come', () => {
    let state = 99
    const random = (below: number) => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) % below
    const answer = answerOf(honest, 0)
    const request = encodeAuditRequest({ session: honest.session, through: 7 })
    const proof = encodeFaultProof(proofOf(honest))
    for (let i = 0; i < 30_000; i++) {
      const [whole, parse] = [
        [answer, parseAuditAnswer],
        [request, parseAuditRequest],
        [proof, parseFaultProof],
      ][i % 3] as [Uint8Array, (bytes: Uint8Array) => unknown]
      const bytes = whole.slice(0, random(20) === 0 ? random(whole.length) : whole.length)
      for (let flips = random(4); flips >= 0; flips--)
        bytes[random(Math.min(bytes.length, 400))] = random(256)
      try {
        parse(bytes)
      } catch (error) {
        if (!isChoraleError(error) || !['protocol', 'not_found'].includes(error.code)) throw error
      }
    }
  })

  it('refuses what is too long', () => {
    expect(() => parseAuditAnswer(new Uint8Array(MAX_AUDIT_BYTES + 1))).toThrow(/at most/)
    expect(() => parseAuditRequest(new Uint8Array(300))).toThrow(/at most/)
  })
})

const proofOf = (signed: SignedSession, change: Partial<FaultProof> = {}): FaultProof => ({
  subnetId: 1,
  defendant: 7,
  peerId: server.peerId,
  modelId: MODEL.id,
  seq: 3,
  audit: answerOf(signed),
  ...change,
})

describe('verifyFaultProof', () => {
  const accused = () => ({ subnetId: 1, nodeId: 7, peerId: server.peerId })

  it('finds the liar guilty and the honest one innocent', async () => {
    const verdict = async (signed: SignedSession) =>
      await verifyFaultProof(encodeFaultProof(proofOf(signed)), accused(), judge)
    expect(await verdict(lying)).toMatchObject({ verdict: 'guilty', comparison: { worst: { seq: 3 } } })
    expect(await verdict(honest)).toMatchObject({ verdict: 'innocent' })
  })

  it.each([
    ['is against another node', { defendant: 8 }],
    ['is of another subnet', { subnetId: 2 }],
    ['names another peer', { peerId: 'somebody' }],
    ['holds nothing', { audit: new Uint8Array([1]) }],
  ])('is unproven when the proof %s', async (_, change) => {
    const bytes = encodeFaultProof(proofOf(lying, change))
    expect(await verifyFaultProof(bytes, accused(), judge)).toMatchObject({ verdict: 'unproven' })
  })

  it('is unproven when the plaintiff changed what the server signed', async () => {
    const audit = answerOf(honest).slice()
    audit[audit.length - 3]! ^= 1
    const bytes = encodeFaultProof(proofOf(honest, { audit }))
    expect(await verifyFaultProof(bytes, accused(), judge)).toMatchObject({ verdict: 'unproven' })
  })

  it('has no verdict where the span can not be run', async () => {
    const loadSpan = async () => await Promise.reject(new Error('no such model'))
    const bytes = encodeFaultProof(proofOf(lying))
    await expect(verifyFaultProof(bytes, accused(), { verify, loadSpan })).rejects.toThrow('no such model')
  })
})

describe('runAudit', () => {
  let reports: OpenReport[]
  let work: WorkReceipt
  const ports = (answer: () => Uint8Array): AuditPorts => ({ subnetId: 1, judge, ask: async () => answer() })
  beforeAll(async () => {
    reports = [
      await openReport(await report(server, { nodeId: 7, receipts: [honest.proof, lying.proof] }), verify),
      await openReport(await report(client, { nodeId: 8 }), verify),
    ]
    work = await openWorkProof(honest.proof, verify)
  })
  const task = (signed: SignedSession) => ({
    nodeId: 7,
    work: { ...work, session: signed.session, chain: work.chain },
    request: { session: signed.session, through: work.sequence },
  })

  it('passes, fails with a proof, or is unavailable', async () => {
    expect(
      await runAudit(
        task(honest),
        ports(() => answerOf(honest)),
      ),
    ).toMatchObject({ outcome: 'passed' })
    const liar = { ...task(lying), work: await openWorkProof(lying.proof, verify) }
    const failed = await runAudit(
      liar,
      ports(() => answerOf(lying)),
    )
    expect(failed).toMatchObject({ outcome: 'failed', nodeId: 7 })
    const accused = { subnetId: 1, nodeId: 7, peerId: server.peerId }
    expect(await verifyFaultProof(failed!.proof!, accused, judge)).toMatchObject({ verdict: 'guilty' })
    // An honest session shown in place of the reported one.
    expect(
      await runAudit(
        liar,
        ports(() => answerOf(honest)),
      ),
    ).toMatchObject({ outcome: 'unavailable' })
    const gone = ports(() => answerAudit({ session: lying.session, through: 1 }, createAuditStore()))
    expect(await runAudit(liar, gone)).toMatchObject({ outcome: 'unavailable', reason: /not kept/ })
  })

  it('finds nothing when its own engine fails', async () => {
    const broken = { verify, loadSpan: async () => await Promise.reject(new Error('no room')) }
    expect(await runAudit(task(honest), { ...ports(() => answerOf(honest)), judge: broken })).toBe(undefined)
  })

  it('plans the same audits everywhere, others with another seed, none of oneself', () => {
    const plan = (seed: number, accountant: number) =>
      planAudits(Uint8Array.of(seed), accountant, reports, 2).map(({ work: { session } }) => session)
    expect(plan(1, 8)).toEqual(plan(1, 8))
    expect(plan(1, 7)).toEqual([])
    expect(new Set([1, 2, 3, 4, 5, 6, 7, 8].flatMap((seed) => plan(seed, 8))).size).toBe(2)
  })

  it('files at most 1,024 bytes, failures first', () => {
    const findings = Array.from({ length: 40 }, (_, i) => ({
      nodeId: i,
      session: `${i}`.padStart(32, '0'),
      outcome: i === 39 ? ('failed' as const) : ('passed' as const),
      reason: '',
    }))
    const bytes = encodeFindings(5, findings)
    expect(bytes.length).toBeLessThanOrEqual(1_024)
    expect(new TextDecoder().decode(bytes)).toContain('failed')
  })
})
