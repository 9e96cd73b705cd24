import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { RuntimeState } from '../../src/ledger/devnet/native/state.ts'
import { percentDiv, percentMul, slashAmount, subnetPayout } from '../../src/ledger/formulas.ts'
import { updateSubnetMisc } from '../../src/ledger/calls.ts'
import {
  DEFAULT_SUBNET_PARAMETERS,
  encodeSubnetParameters,
  type SubnetParameters,
} from '../../src/ledger/subnet-parameters.ts'
import type { AuditEntry } from '../../src/attest/epoch-report.ts'
import { contentHash } from '../../src/attest/evidence.ts'
import type { LoadPolicy } from '../../src/attest/score-by-parameters.ts'
import type { Consensus, LedgerBlock, LedgerValue } from '../../src/ledger/ledger.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import { rows } from '../../src/tensor/tensor.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { noise } from '../engine/span-runs.ts'
import { computeSteps } from './peers.ts'
import { EPOCH_BLOCKS, type SimulatedSubnet, simulateSubnet } from './simulated-subnet.ts'

const EPOCHS = 100
const COUNT = 20
const COLLUDERS = [19, 20]
const LIAR = 18
const LEAST = 66n * 10n ** 16n

/** What one epoch ended with, read from the ledger at its last block. */
interface EpochRecord {
  readonly epoch: number
  readonly consensus: Consensus | undefined
  /** Validators at the end of the epoch. */
  readonly live: ReadonlySet<number>
  /** What honest accountants found. */
  readonly findings: readonly AuditEntry[]
}

async function start(
  count: number,
  colluders: readonly number[],
  liar: number,
  loadPolicy?: LoadPolicy,
): Promise<SimulatedSubnet> {
  const model = randomModel(ODD_SPEC, () => 'F32')
  const { blockCount, hiddenSize } = ODD_SPEC
  const span = await createReferenceEngine().loadSpan(model, { start: 0, end: blockCount, kvTokens: 512 })
  const runner = createLocalSpan(span, { modelId: 'odd@1', hiddenSize, engineName: 'reference' })
  const hidden = noise(6, hiddenSize)
  const inputs = [rows(hidden, 0, 4), rows(hidden, 4, 5), rows(hidden, 5, 6)]
  const honestSteps = await computeSteps(runner, inputs)
  const falseSteps = await computeSteps(runner, inputs, 'f32', (output) => {
    for (const [i, value] of output.entries()) output[i] = value * 1.05
  })
  return await simulateSubnet({
    count,
    colluders,
    liar,
    runner,
    blockCount,
    honestSteps,
    falseSteps,
    ...(loadPolicy && { loadPolicy }),
  })
}

describe('100 epochs of 20 validators, 3 of them malicious', () => {
  let subnet: SimulatedSubnet
  const records: EpochRecord[] = []
  let supplyBefore = 0n
  let firstBlock = 0

  beforeAll(async () => {
    subnet = await start(COUNT, COLLUDERS, LIAR)
    const { chain, ledger, subnetId, slot } = subnet
    firstBlock = chain.head.number
    supplyBefore = supply(subnet)
    for (let i = 0; i < EPOCHS; i++) {
      const epoch = Math.floor((chain.head.number - slot) / EPOCH_BLOCKS)
      await subnet.runEpoch()
      const at = chain.head.parentHash
      const nodes = await ledger.nodes(subnetId, at)
      records.push({
        epoch,
        consensus: await ledger.consensus(subnetId, epoch, at),
        findings: subnet.nodes.flatMap(({ attest, id }) => (isHonest(id) ? attest.findings(epoch) : [])),
        live: new Set(nodes.filter((node) => node.class === 'Validator').map(({ id }) => id)),
      })
    }
  }, 120_000)

  const honest = () => subnet.nodes.filter(({ malicious }) => !malicious).map(({ id }) => id)
  const isHonest = (id: number) => honest().includes(id)

  it('honest validators agree exactly: every honest proposal is attested by all honest ones', () => {
    const proposed = records.filter(({ consensus }) => consensus && isHonest(consensus.proposer))
    expect(proposed.length).toBeGreaterThan(EPOCHS / 2)
    for (const { epoch, consensus } of proposed) {
      const missing = honest().filter((id) => !consensus!.attestors.includes(id))
      expect([epoch, missing]).toEqual([epoch, []])
      expect(consensus!.scores.length).toBeGreaterThan(0)
    }
  })

  it('somebody elected proposes in every epoch, once the first one is elected', () => {
    expect(records.slice(1).filter(({ consensus }) => consensus === undefined)).toEqual([])
  })

  it('no honest validator attests what colluders propose, and each such proposal is slashed by the formula', async () => {
    const greedy = records.filter(({ consensus }) => consensus && COLLUDERS.includes(consensus.proposer))
    expect(greedy.length).toBeGreaterThan(0)
    for (const { consensus } of greedy) {
      expect(consensus!.attestors.filter(isHonest)).toEqual([])
    }
    const { blocks, ledger, nodes, subnetId } = subnet
    const slashes = eventsOf(blocks, 'Slashing').filter(({ block }) => block.number > firstBlock)
    expect(slashes).toHaveLength(greedy.length)
    for (const { block, data } of slashes) {
      const consensus = greedy.find(
        (record) => record.epoch === epochOf(subnet, block.number) - 1,
      )!.consensus!
      const { hotkey } = nodes.find(({ id }) => id === consensus.proposer)!
      expect(data['account_id']).toBe(hotkey.address)
      const before = await ledger.storage(
        'Network',
        'AccountSubnetStake',
        [hotkey.address, subnetId],
        block.parentHash,
      )
      const ratio = percentDiv(BigInt(consensus.attestors.length), BigInt(consensus.validators.length))
      expect(data['amount']).toBe(slashAmount(before as bigint, ratio, LEAST))
      expect(data['amount']).toBeGreaterThan(0n)
    }
  })

  it('accountants find the liar, its challenge is voted down, and it loses node and stake', async () => {
    const { blocks, ledger, nodes, subnetId, upheld } = subnet
    const disputes = await ledger.disputes(subnetId)
    const [found, ...more] = disputes.filter(({ defendant }) => defendant === LIAR)
    expect(found).toMatchObject({ outcome: 'upheld', challengeBlock: expect.any(Number), nay: [LIAR] })
    expect(more).toEqual([])
    // As an accountant the liar accuses honest nodes, and loses its bond each time.
    for (const dispute of disputes.filter(({ defendant }) => defendant !== LIAR)) {
      expect(dispute).toMatchObject({ plaintiff: LIAR, outcome: 'dismissed', yay: [LIAR] })
    }
    expect((await ledger.nodes(subnetId)).map(({ id }) => id)).not.toContain(LIAR)
    const { hotkey } = nodes.find(({ id }) => id === LIAR)!
    const [slash] = eventsOf(blocks, 'DefendantSlashed')
    const stakeOf = async (at: string) =>
      await ledger.storage('Network', 'AccountSubnetStake', [hotkey.address, subnetId], at)
    expect(await stakeOf(slash!.block.hash)).toBe(0n)
    expect(slash!.data['amount']).toBe(await stakeOf(slash!.block.parentHash))
    expect(slash!.data).toMatchObject({ subnet_node_id: LIAR, account_id: hotkey.address })
    expect(slash!.data['amount']).toBeGreaterThan(100n * 10n ** 18n)
    // Everybody else was told, to end its routes and sessions.
    expect([...upheld.keys()]).toEqual([LIAR])
    expect(honest().filter((id) => !upheld.get(LIAR)!.has(id))).toEqual([])
  })

  it('every honest server passes its audits, and what was found is filed on the ledger', async () => {
    const all = records.flatMap(({ findings }) => findings)
    expect(all.length).toBeGreaterThan(EPOCHS)
    for (const { nodeId, outcome } of all)
      expect([nodeId, outcome]).toEqual([nodeId, nodeId === LIAR ? 'failed' : 'passed'])
    const filed = eventsOf(subnet.blocks, 'AccountantSubmission')
    expect(filed.length).toBeGreaterThan(EPOCHS)
  })

  it('every honest node is there at the end, with more stake than at the beginning', async () => {
    const nodes = await subnet.ledger.nodes(subnet.subnetId)
    for (const id of honest()) {
      expect(nodes.find((node) => node.id === id)?.stake).toBeGreaterThan(100n * 10n ** 18n)
    }
  })

  it('accounts for the supply to the last unit', async () => {
    const state = stateOf(subnet)
    const accounts = state.entries('System.Account', []) as unknown as readonly {
      value: { data: { free: bigint } }
    }[]
    expect(sum(accounts.map(({ value }) => value.data.free))).toBe(state.balances.issuance())
    const network = state.context('Network')
    const stakes = network.entries('AccountSubnetStake').map(({ value }) => value as bigint)
    expect(sum(stakes)).toBe(network.get('TotalStake'))
    let expected = supplyBefore
    for (const block of subnet.blocks.filter(({ number }) => number > firstBlock)) {
      expected += await change(subnet, block)
    }
    expect(supply(subnet)).toBe(expected)
  })
})

describe('parameters from the ledger', () => {
  it('change scores live, and a policy program takes the place of the formula', async () => {
    const wasm = new Uint8Array(
      readFileSync(join(import.meta.dirname, '../vectors/policy/span-squared.wasm')),
    )
    const subnet = await start(4, [], 0, async (sha256) => (sha256 === contentHash(wasm) ? wasm : undefined))
    const { chain, ledger, owner, slot, subnetId } = subnet
    const run = async (change: Partial<SubnetParameters>): Promise<Consensus | undefined> => {
      const misc = encodeSubnetParameters({ ...DEFAULT_SUBNET_PARAMETERS, ...change })
      await ledger.submit(updateSubnetMisc(subnetId, misc), owner)
      // What the ledger says at an epoch's first block counts for that epoch.
      await subnet.runEpoch()
      const epoch = Math.floor((chain.head.number - slot) / EPOCH_BLOCKS)
      await subnet.runEpoch()
      return await ledger.consensus(subnetId, epoch, chain.head.parentHash)
    }
    await subnet.runEpoch()
    const uptimeOnly = await run({ score: { blocks: 0, work: 0, uptime: 1000, audits: 0 } })
    expect(uptimeOnly?.attestors).toHaveLength(4)
    expect(new Set(uptimeOnly?.scores.map(({ score }) => score)).size).toBeGreaterThan(1)
    const blocksOnly = await run({ score: { blocks: 1000, work: 0, uptime: 0, audits: 0 } })
    expect(blocksOnly?.attestors).toHaveLength(4)
    expect(new Set(blocksOnly?.scores.map(({ score }) => score))).toEqual(new Set([10n ** 18n / 4n]))
    const policy = await run({ policy: { sha256: contentHash(wasm), gas: 100_000, pages: 2 } })
    expect(policy?.attestors).toHaveLength(4)
    // span² · 10⁶, and the work of the sessions: 3 blocks × (4 + 2 × 4).
    expect(policy?.scores.map(({ score }) => score)).toEqual([1, 2, 3, 4].map(() => 9_000_036n))
    // A program that nobody has: no proposal, and no wrong one.
    expect(await run({ policy: { sha256: 'ab'.repeat(32), gas: 100_000, pages: 2 } })).toBe(undefined)
  }, 60_000)
})

const sum = (values: readonly bigint[]) => values.reduce((total, value) => total + value, 0n)

function epochOf({ slot }: SimulatedSubnet, block: number): number {
  return Math.floor((block - slot) / EPOCH_BLOCKS)
}

function eventsOf(blocks: readonly LedgerBlock[], name: string) {
  return blocks.flatMap((block) =>
    block.events.filter((event) => event.name === name).map(({ data }) => ({ block, data })),
  )
}

function stateOf({ chain }: SimulatedSubnet): RuntimeState {
  return new RuntimeState(chain.native.types, chain.head.state.overlay())
}

/** Balances, and all that the pallets' books hold. */
function supply(subnet: SimulatedSubnet): bigint {
  const state = stateOf(subnet)
  const network = state.context('Network')
  const held = [
    'TotalStake',
    'TotalDelegateStake',
    'TotalNodeDelegateStake',
    'TotalUnbondingBalance',
    'TotalAccountDelegateStake',
  ].map((item) => network.get(item) as bigint)
  return sum([...held, state.context('Disputes').get('TotalBonds') as bigint, state.balances.issuance()])
}

const TREASURY = '0x6d6f646c70792f74727372790000000000000000'

/** What a block minted and burnt, by its events and the formulas. */
async function change({ ledger, slot, subnetId }: SimulatedSubnet, block: LedgerBlock): Promise<bigint> {
  const read = async (item: string, keys: readonly LedgerValue[], at = block.parentHash) =>
    await ledger.storage('Network', item, keys, at)
  let delta = 0n
  if (block.number % EPOCH_BLOCKS === 2) {
    // The treasury's fifth of the emission.
    const [before, after] = [block.parentHash, block.hash].map((at) => ledger.balance(TREASURY, at))
    delta += (await after!) - (await before!)
  }
  for (const { data, name, pallet } of block.events) {
    if (pallet === 'TransactionPayment' && name === 'TransactionFeePaid')
      delta -= data['actual_fee'] as bigint
    if (name === 'Slashing') delta -= data['amount'] as bigint
    if (name !== 'SubnetRewards') continue
    const epoch = Math.floor((block.number - slot) / EPOCH_BLOCKS) - 1
    const submission = (await read('SubnetConsensusSubmission', [subnetId, epoch])) as Record<
      string,
      LedgerValue
    >
    const weights = (await read('FinalSubnetEmissionWeights', [Math.floor(block.number / EPOCH_BLOCKS)])) as {
      validator_emissions: bigint
      weights: readonly (readonly [number, bigint])[]
    }
    const weight = weights.weights.find(([id]) => id === subnetId)![1]
    const ownerShare = (await read('SubnetOwnerPercentage', [])) as bigint
    const delegateShare = (await read('SubnetDelegateStakeRewardsPercentage', [subnetId])) as bigint
    const payout = subnetPayout(weights.validator_emissions, weight, ownerShare, delegateShare)
    expect(data['delegate_stake_reward']).toBe(payout.delegators)
    const nodes = (data['node_rewards'] as readonly (readonly [number, bigint])[]).map(([, amount]) => amount)
    expect(sum(nodes)).toBeLessThanOrEqual(payout.nodes)
    const base = (await read('BaseValidatorReward', [])) as bigint
    delta += payout.owner + payout.delegators + sum(nodes)
    delta += percentMul(base, submission['validator_reward_factor'] as bigint)
  }
  return delta
}
