import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { epochTime } from '../../src/attest/epoch-clock.ts'
import {
  afterDisagreement,
  afterFailure,
  decideDuty,
  type DutyMemory,
  type DutyView,
  newEpochMemory,
} from '../../src/attest/epoch-duties.ts'
import { parseReport } from '../../src/attest/epoch-report.ts'
import { createReportPool, type ReportPool } from '../../src/attest/report-pool.ts'
import { createEpochDuties, type EpochDuties, runEpochDuties } from '../../src/attest/run-epoch-duties.ts'
import type { Consensus } from '../../src/ledger/ledger.ts'
import { DEFAULT_SUBNET_PARAMETERS } from '../../src/ledger/subnet-parameters.ts'
import { type Peer, peer, report, verify } from './peers.ts'
import { nodeOf, ScriptedLedger, signerOf } from './scripted-ledger.ts'

const WINDOWS = DEFAULT_SUBNET_PARAMETERS.epoch
const PROPOSAL: Consensus = {
  proposer: 1,
  block: 106,
  scores: [],
  validators: [1, 2, 3],
  attestors: [1],
  args: undefined,
}
const view = (block: number, change: Partial<DutyView> = {}): DutyView => ({
  time: epochTime(block, 5, 20),
  nodeId: 2,
  elected: 1,
  consensus: undefined,
  isValidator: true,
  reports: { here: 3, expected: 3 },
  ...change,
})

describe('decideDuty', () => {
  const memory = newEpochMemory(epochTime(105, 5, 20))
  it.each([
    ['waits for the elected one', view(105), 'waits for the proposal'],
    ['has nothing to do when nobody is elected', view(105, { elected: undefined }), 'nobody is elected'],
    [
      'waits for reports at first',
      view(106, { nodeId: 1, reports: { here: 2, expected: 3 } }),
      'waits for reports',
    ],
    ['proposes when all reports are here', view(105, { nodeId: 1 }), 'propose'],
    [
      'proposes without the last report',
      view(107, { nodeId: 1, reports: { here: 2, expected: 3 } }),
      'propose',
    ],
    ['proposes no more after the window', view(115, { nodeId: 1 }), 'too late to propose'],
    ['does not propose what is proposed', view(106, { nodeId: 1, consensus: PROPOSAL }), 'proposed'],
    ['examines the proposal', view(106, { consensus: PROPOSAL }), 'examine'],
    ['examines it after the proposing window', view(120, { consensus: PROPOSAL }), 'examine'],
    ['does not attest when the epoch ends', view(124, { consensus: PROPOSAL }), 'too late to attest'],
    ['has attested', view(107, { consensus: { ...PROPOSAL, attestors: [1, 2] } }), 'attested'],
    ['is no validator', view(107, { consensus: PROPOSAL, isValidator: false }), 'no validator of this epoch'],
    ['was none at the proposal', view(107, { nodeId: 9, consensus: PROPOSAL }), 'no validator of this epoch'],
  ])('%s', (_, at, wanted) => {
    const duty = decideDuty(at, memory, WINDOWS)
    expect(duty.do === 'nothing' ? duty.reason : duty.do).toBe(wanted)
  })

  it('looks again at even distances, as often as it may', () => {
    let known: DutyMemory | undefined
    const looked: number[] = []
    for (let block = 105; block < 125; block++) {
      const at = view(block, { consensus: PROPOSAL })
      if (decideDuty(at, known, WINDOWS).do !== 'examine') continue
      looked.push(block)
      known = afterDisagreement(known, at.time)
    }
    expect(looked).toEqual([105, 112, 118])
  })

  it('gives up after five failed calls, until the next epoch', () => {
    let known: DutyMemory | undefined
    const { time } = view(105)
    for (let i = 0; i < 5; i++) {
      expect(decideDuty(view(105, { nodeId: 1 }), known, WINDOWS).do).toBe('propose')
      known = afterFailure(known, time)
    }
    expect(decideDuty(view(105, { nodeId: 1 }), known, WINDOWS).do).toBe('nothing')
    expect(decideDuty(view(125, { nodeId: 1 }), known, WINDOWS).do).toBe('propose')
  })
})

const NODES = [1, 2, 3, 4]

describe('createEpochDuties', () => {
  let peers: Peer[]
  let ledger: ScriptedLedger
  let pools: Map<number, ReportPool>
  /** Reports kept from one start of a process to the next. */
  let disk: Map<string, Uint8Array>
  beforeAll(async () => {
    peers = await Promise.all(NODES.map(async (id) => await peer(id)))
  })
  beforeEach(() => {
    ledger = new ScriptedLedger(104)
    ledger.nodeList = NODES.map((id) => nodeOf(id, peers[id - 1]!.peerId))
    ledger.write({
      elected: new Map([
        [5, 1],
        [6, 2],
      ]),
    })
    disk = new Map()
    pools = new Map(
      NODES.map((id) => [
        id,
        createReportPool({
          subnetId: 1,
          verify,
          isNode: (node, peerId) => peers[node - 1]?.peerId === peerId,
        }),
      ]),
    )
  })

  const optionsOf = (id: number, deaf = false) => ({
    ledger,
    signer: signerOf(id),
    subnetId: 1,
    nodeId: id,
    pool: pools.get(id)!,
    sign: (bytes: Uint8Array) => peers[id - 1]!.sign(bytes),
    makeReport: async ({ epoch }: { epoch: number }) =>
      parseReport(
        await report(
          peers[id - 1]!,
          { nodeId: id, epoch },
          NODES.filter((other) => other !== id),
        ),
      ).report,
    publish: async (bytes: Uint8Array) => {
      if (deaf) return
      for (const pool of pools.values()) await pool.add(bytes)
    },
    fetch: async (hash: string) => [...pools.values()].map((pool) => pool.get(hash)).find((bytes) => bytes),
    ownReports: {
      load: async (epoch: number) => disk.get(`${id} ${epoch}`),
      save: async (epoch: number, bytes: Uint8Array) => void disk.set(`${id} ${epoch}`, bytes),
    },
  })
  const start = () => NODES.map((id) => createEpochDuties(optionsOf(id)))
  const run = async (all: readonly EpochDuties[], blocks: number, branch?: string) => {
    for (let i = 0; i < blocks; i++) {
      const block = ledger.next(ledger.block, branch)
      for (const duties of all) await duties.onBlock(block)
    }
  }
  const count = (name: string) => ledger.sent.filter(({ call }) => call === name).length
  const attestors = () => ledger.block.consensus.get(5)?.attestors.toSorted()

  it('one proposes, all others attest, each once', async () => {
    const all = start()
    await run(all, 19)
    expect(ledger.block.consensus.get(5)?.proposer).toBe(1)
    expect(attestors()).toEqual(NODES)
    expect([count('propose_attestation'), count('attest')]).toEqual([1, 3])
    const { scores } = ledger.block.consensus.get(5)!
    expect(scores.map(({ nodeId }) => nodeId)).toEqual(NODES)
    expect(new Set(scores.map(({ score }) => score)).size).toBe(1)
    expect(all.map(({ state }) => state?.duty)).toEqual(['proposed', 'attested', 'attested', 'attested'])
    await run(all, 4)
    expect(ledger.block.consensus.get(6)?.proposer).toBe(2)
    expect(all[0]!.state).toMatchObject({ lastAttestation: 1000, elected: 2 })
  })

  it('a restart at any block proposes and attests nothing twice', async () => {
    for (let i = 0; i < 19; i++) await run(start(), 1)
    expect([count('propose_attestation'), count('attest'), attestors()]).toEqual([1, 3, NODES])
  })

  it('a late validator fetches the evidence it never received, and attests', async () => {
    const late = createEpochDuties({
      ...optionsOf(4, true),
      pool: createReportPool({ subnetId: 1, verify, isNode: (node, id) => peers[node - 1]?.peerId === id }),
      rule: { minSharedPerMille: 0, differing: 'any' },
    })
    await run([...NODES.slice(0, 3).map((id) => createEpochDuties(optionsOf(id))), late], 10)
    expect(attestors()).toEqual(NODES)
  })

  it('refuses a proposal that pays one unit too much, looks again, and says why', async () => {
    const all = start()
    await run(all, 1)
    await run(all.slice(0, 1), 1)
    const consensus = ledger.block.consensus.get(5)!
    const [first, ...rest] = consensus.scores
    const scores = [{ ...first!, score: first!.score + 1n }, ...rest]
    ledger.write({ consensus: new Map([[5, { ...consensus, scores }]]) })
    await run(all, 3)
    expect(attestors()).toEqual([1])
    expect(all[1]!.state?.duty).toMatch(/disagree|does not attest/)
    // The proposal is put right on another branch: the next look agrees.
    ledger.write({ consensus: new Map([[5, consensus]]) })
    await run(all, 12)
    expect(attestors()).toEqual(NODES)
  })

  it('refuses a proposal whose snapshot nobody can show', async () => {
    const all = start()
    await run(all, 1)
    await run(all.slice(0, 1), 1)
    const consensus = ledger.block.consensus.get(5)!
    const args = consensus.args!.slice()
    args[args.length - 1]! ^= 1
    ledger.write({ consensus: new Map([[5, { ...consensus, args, attestors: [1] }]]) })
    ledger.sent.length = 0
    await run(all, 5)
    expect(attestors()).toEqual([1])
    expect(count('attest')).toBe(0)
  })

  it('does nothing while the ledger is unreachable, and goes on after', async () => {
    const all = start()
    ledger.status = { state: 'unreachable', since: 0, reason: 'down' }
    await run(all, 4)
    expect(ledger.sent).toEqual([])
    ledger.status = { state: 'reachable', since: 0 }
    await run(all, 4)
    expect(attestors()).toEqual(NODES)
  })

  it('does its duty again on the branch that wins, when the one with its calls is lost', async () => {
    const all = start()
    await run(all, 2)
    const fork = ledger.block
    await run(all, 3)
    expect(attestors()).toEqual(NODES)
    // Back to a block before the proposal, on another branch.
    const before = { ...fork, consensus: new Map() }
    ledger.next(before, 'b')
    await run(all, 4, 'b')
    expect(attestors()).toEqual(NODES)
    expect(count('propose_attestation')).toBe(2)
  })

  it('survives calls that are refused or lost, and sends them again a bounded number of times', async () => {
    const all = start()
    ledger.refusal = 'Network.InvalidSubnetConsensusSubmission'
    await run(all, 3)
    ledger.refusal = undefined
    ledger.lose = true
    await run(all, 1)
    expect(ledger.block.consensus.get(5)).toBe(undefined)
    ledger.lose = false
    await run(all, 3)
    expect(attestors()).toEqual(NODES)
    ledger.refusal = 'AlreadyAttested'
    const sent = ledger.sent.length
    await run(all, 10)
    expect(ledger.sent.length).toBe(sent)
  })

  it('has no duty where the policy program of the subnet is not here', async () => {
    ledger.misc = JSON.stringify({ policy: { sha256: 'ab'.repeat(32), gas: 1000, pages: 1 } })
    await run(start(), 6)
    expect(ledger.sent).toEqual([])
  })

  it('follows the ledger by itself until it is stopped', async () => {
    const running = NODES.map((id) => runEpochDuties(optionsOf(id)))
    for (let i = 0; i < 12; i++) {
      ledger.next()
      await expect.poll(() => running.every(({ state }) => state?.time.progress === i * 50)).toBe(true)
    }
    expect(attestors()).toEqual(NODES)
    await Promise.all(running.map((duties) => duties.stop()))
    const sent = ledger.sent.length
    ledger.next()
    expect(ledger.sent.length).toBe(sent)
  })
})
