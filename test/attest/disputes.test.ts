import { describe, expect, it } from 'vitest'
import { chooseAccountants } from '../../src/attest/accountants.ts'
import { decideDispute, type DisputeView } from '../../src/attest/dispute-duties.ts'
import { faultProofHash } from '../../src/attest/fault-proof.ts'
import { createDisputes, type DisputesOptions } from '../../src/attest/run-disputes.ts'
import type { Dispute } from '../../src/ledger/ledger.ts'
import { nodeOf, ScriptedLedger, signerOf } from './scripted-ledger.ts'

const PERIODS = { challenge: 100, voting: 50 }
const DISPUTE: Dispute = {
  id: 3,
  subnetId: 1,
  plaintiff: 1,
  defendant: 2,
  startBlock: 1_000,
  challengeBlock: undefined,
  yay: [1],
  nay: [],
  evidence: new Uint8Array(32),
  outcome: 'open',
}
const CHALLENGED: Dispute = { ...DISPUTE, challengeBlock: 1_040, nay: [2] }
const view = (change: Partial<DisputeView> = {}): DisputeView => ({
  block: 1_050,
  nodeId: 5,
  mayVote: true,
  periods: PERIODS,
  verdict: undefined,
  ...change,
})

describe('decideDispute', () => {
  it.each([
    ['others wait for the accused', DISPUTE, view(), 'nothing'],
    ['the accused judges itself', DISPUTE, view({ nodeId: 2 }), 'judge'],
    ['the accused challenges when cleared', DISPUTE, view({ nodeId: 2, verdict: 'innocent' }), 'challenge'],
    [
      'the accused challenges what proves nothing',
      DISPUTE,
      view({ nodeId: 2, verdict: 'unproven' }),
      'challenge',
    ],
    ['the accused does not fight what holds', DISPUTE, view({ nodeId: 2, verdict: 'guilty' }), 'nothing'],
    ['anybody settles what nobody challenged', DISPUTE, view({ block: 1_117 }), 'finalize'],
    ['the plaintiff first', DISPUTE, view({ block: 1_100, nodeId: 1 }), 'finalize'],
    ['the others wait for it', DISPUTE, view({ block: 1_101 }), 'nothing'],
    ['a voter judges', CHALLENGED, view(), 'judge'],
    ['a voter votes yes', CHALLENGED, view({ verdict: 'guilty' }), 'vote true'],
    ['a voter votes no', CHALLENGED, view({ verdict: 'innocent' }), 'vote false'],
    ['no proof, no guilt', CHALLENGED, view({ verdict: 'unproven' }), 'vote false'],
    ['who voted has voted', { ...CHALLENGED, yay: [1, 5] }, view({ verdict: 'guilty' }), 'nothing'],
    ['the plaintiff has voted', CHALLENGED, view({ nodeId: 1, verdict: 'guilty' }), 'nothing'],
    ['others may not vote', CHALLENGED, view({ mayVote: false }), 'nothing'],
    ['anybody settles after the vote', CHALLENGED, view({ block: 1_107 }), 'finalize'],
    [
      'nothing is left to do',
      { ...CHALLENGED, outcome: 'upheld' as const },
      view({ block: 9_999 }),
      'nothing',
    ],
  ])('%s', (_, dispute, at, wanted) => {
    const duty = decideDispute(dispute, at)
    expect(duty.do === 'vote' ? `vote ${duty.guilty}` : duty.do).toBe(wanted)
  })
})

describe('createDisputes', () => {
  const bytes = new TextEncoder().encode('no fault proof')
  const evidence = faultProofHash(bytes)
  function setUp(nodeId: number, change: Partial<DisputesOptions> = {}) {
    const ledger = new ScriptedLedger(1_045)
    ledger.nodeList = [1, 2, 5].map((id) => nodeOf(id, `peer ${id}`))
    const upheld: unknown[] = []
    let fetched = 0
    const disputes = createDisputes({
      ledger,
      signer: signerOf(nodeId),
      subnetId: 1,
      nodeId,
      judge: { verify: async () => true, loadSpan: async () => await Promise.reject(new Error('none')) },
      fetch: async () => {
        fetched++
        return bytes
      },
      onUpheld: (defendant) => upheld.push(defendant),
      ...change,
    })
    const run = async (blocks: number) => {
      for (let i = 0; i < blocks; i++) await disputes.onBlock(ledger.next())
    }
    return { ledger, run, upheld, fetched: () => fetched }
  }

  it('challenges, votes and settles by its own judgement, each once while the ledger takes it', async () => {
    const accused = setUp(2)
    accused.ledger.disputeList = [{ ...DISPUTE, evidence }]
    await accused.run(2)
    expect(accused.ledger.sent).toMatchObject([{ pallet: 'Disputes', call: 'challenge_proposal' }])
    const voter = setUp(5)
    voter.ledger.disputeList = [{ ...CHALLENGED, evidence }]
    await voter.run(2)
    expect(voter.ledger.sent).toMatchObject([{ call: 'vote' }])
    voter.ledger.disputeList = [{ ...CHALLENGED, evidence, nay: [2, 5] }]
    await voter.run(100)
    expect(voter.ledger.sent.at(-1)).toMatchObject({ call: 'finalize_proposal' })
  })

  it('asks again later for a proof that nobody has, and does not vote without', async () => {
    const { fetched, ledger, run } = setUp(5, { fetch: async () => undefined })
    ledger.disputeList = [{ ...CHALLENGED, evidence }]
    await run(20)
    expect(ledger.sent).toEqual([])
    const wrong = setUp(5, { fetch: async () => Uint8Array.of(1) })
    wrong.ledger.disputeList = [{ ...CHALLENGED, evidence }]
    await wrong.run(20)
    expect(wrong.ledger.sent).toEqual([])
    expect(fetched()).toBe(0)
  })

  it('says once that a node was proven a liar, by the peer id it had', async () => {
    const { ledger, run, upheld } = setUp(5)
    ledger.disputeList = [{ ...DISPUTE, evidence }]
    await run(1)
    ledger.nodeList = ledger.nodeList.filter(({ id }) => id !== 2)
    ledger.disputeList = [{ ...DISPUTE, evidence, outcome: 'upheld' }]
    await run(5)
    expect(upheld).toEqual([{ nodeId: 2, peerId: 'peer 2' }])
  })

  it('does nothing where the chain settles no disputes, or is unreachable', async () => {
    const { ledger, run } = setUp(2)
    ledger.disputeList = [{ ...DISPUTE, evidence }]
    ledger.status = { state: 'unreachable', since: 0, reason: 'down' }
    await run(3)
    expect(ledger.sent).toEqual([])
  })
})

describe('chooseAccountants', () => {
  const nodes = Array.from({ length: 40 }, (_, i) => i + 1)
  const seed = (n: number) => new Uint8Array(32).fill(n)

  it('chooses equally for equal inputs in any order, and differently for another seed', () => {
    const chosen = chooseAccountants(seed(1), nodes, 3)
    expect(chosen).toHaveLength(3)
    expect(chooseAccountants(seed(1), nodes.toReversed(), 3)).toEqual(chosen)
    expect(chooseAccountants(seed(2), nodes, 3)).not.toEqual(chosen)
    expect(chooseAccountants(seed(1), [5], 3)).toEqual([5])
    expect(chooseAccountants(seed(1), [], 3)).toEqual([])
  })

  it('changes at most one place when a node joins', () => {
    for (let n = 0; n < 50; n++) {
      const before = chooseAccountants(seed(n), nodes, 4)
      const after = chooseAccountants(seed(n), [...nodes, 99], 4)
      expect(before.filter((id) => after.includes(id)).length).toBeGreaterThanOrEqual(3)
    }
  })

  it('chooses everybody about equally often', () => {
    const counts = new Map<number, number>()
    for (let n = 0; n < 4_000; n++) {
      const bytes = seed(0)
      new DataView(bytes.buffer).setUint32(0, n)
      for (const id of chooseAccountants(bytes, nodes, 2)) counts.set(id, (counts.get(id) ?? 0) + 1)
    }
    // 200 each, standard deviation 14.
    expect(Math.min(...counts.values())).toBeGreaterThan(130)
    expect(Math.max(...counts.values())).toBeLessThan(270)
  })
})
