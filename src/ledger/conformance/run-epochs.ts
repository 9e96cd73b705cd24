import { ChoraleError } from '../../errors.ts'
import { attest, proposeAttestation } from '../calls.ts'
import {
  attestorFactor,
  decreaseReputation,
  epochEmission,
  increaseReputation,
  near,
  nodeReward,
  ONE,
  percentDiv,
  percentMul,
  proposerFactor,
  shortfall,
  slashAmount,
  subnetEpochOf,
  subnetPayout,
} from '../formulas.ts'
import type { LedgerBlock, SubnetNode } from '../ledger.ts'
import type { ScriptNode, ScriptSubnet } from './found-subnet.ts'
import { bigOf, type Checks, eventOf, feeOf, fieldOf, listOf, type Script } from './script.ts'

/** Epochs in which the first election must have come. */
const ELECTION_EPOCHS = 5

/** Proposes, attests and is paid; proposes badly and is slashed; recovers. @returns whether all steps ran. */
export async function runEpochs(script: Script, subnet: ScriptSubnet): Promise<boolean> {
  const begun = { epoch: 0, elected: subnet.nodes[0] as ScriptNode }
  const electNext = async (checks: Checks): Promise<void> => {
    const { epoch, elected } = await nextElection(script, subnet)
    begun.epoch = epoch
    begun.elected = elected
    checks.said.push(`node ${elected.id} is elected for epoch ${epoch}`)
  }
  const propose = async (checks: Checks, scores: readonly bigint[]): Promise<void> => {
    await electNext(checks)
    await proposeScores(script, checks, subnet, begun.elected, begun.epoch, scores)
  }
  const others = (): readonly ScriptNode[] => subnet.nodes.filter(({ id }) => id !== begun.elected.id)
  return (
    (await script.step('propose', async (checks) => {
      await propose(checks, [40n, 30n, 20n, 10n])
      const [other] = others()
      if (other === undefined) return
      await script.refused(
        'a second proposal',
        proposeAttestation(subnet.id, []),
        begun.elected.hotkey,
        ['SubnetRewardsAlreadySubmitted'],
        checks,
      )
      await script.refused(
        'a proposal of another node',
        proposeAttestation(subnet.id, []),
        other.hotkey,
        ['InvalidValidator'],
        checks,
      )
    })) &&
    (await script.step('attest', (checks) => attestAll(script, checks, subnet, others(), begun.epoch))) &&
    (await script.step('rewards', (checks) => judgeRewards(script, checks, subnet, begun.epoch))) &&
    (await script.step('bad proposal', (checks) => propose(checks, [1n, 0n, 0n, 0n]))) &&
    (await script.step('slash', (checks) => judgeSlash(script, checks, subnet, begun))) &&
    (await script.step('recover', async (checks) => {
      await propose(checks, [1n, 1n, 1n, 1n])
      await attestAll(script, checks, subnet, others(), begun.epoch)
      await judgeRewards(script, checks, subnet, begun.epoch)
    }))
  )
}

/** Waits for the next subnet epoch and who is elected in it. */
async function nextElection(
  script: Script,
  { id, slot, nodes }: ScriptSubnet,
): Promise<{ readonly epoch: number; readonly elected: ScriptNode }> {
  const { ledger } = script
  for (let tries = 0; tries < ELECTION_EPOCHS; tries++) {
    const begins = script.nextSlot(await script.head(), slot)
    const { hash } = await script.until(begins)
    const { epoch } = subnetEpochOf(begins, slot, ledger.info.epochBlocks)
    const electedId = await ledger.electedNode(id, epoch, hash)
    const elected = nodes.find((node) => node.id === electedId)
    if (elected !== undefined) return { epoch, elected }
    if (electedId !== undefined)
      throw new ChoraleError('ledger', `node ${electedId}, which is unknown, is elected`)
  }
  throw new ChoraleError('ledger', `nobody was elected in ${ELECTION_EPOCHS} epochs`)
}

async function proposeScores(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  elected: ScriptNode,
  epoch: number,
  scores: readonly bigint[],
): Promise<void> {
  const { ledger } = script
  const data = subnet.nodes.map(({ id }, i) => ({ nodeId: id, score: scores[i] ?? 0n }))
  const before = await ledger.balance(elected.hotkey.address)
  // An entry of a node that does not exist must be left out.
  const call = proposeAttestation(subnet.id, [...data, { nodeId: 999_999, score: 5n }])
  const done = await script.send(call, elected.hotkey, checks)
  const event = eventOf(done.events, 'ValidatorSubmission')
  checks.equal(
    'event',
    [event['subnet_id'], event['account_id'], event['epoch']],
    [subnet.id, elected.hotkey.address, epoch],
  )
  checks.equal('fee', before - (await ledger.balance(elected.hotkey.address, done.blockHash)), 0n)
  const consensus = await ledger.consensus(subnet.id, epoch)
  checks.equal('proposer', consensus?.proposer, elected.id)
  checks.equal('scores', consensus?.scores, data)
  checks.equal(
    'who may attest',
    consensus?.validators.toSorted(byNumber),
    subnet.nodes.map(({ id }) => id),
  )
  checks.equal('who has', consensus?.attestors, [elected.id])
  const { progress } = subnetEpochOf(done.blockNumber, subnet.slot, ledger.info.epochBlocks)
  const stored = await ledger.storage('Network', 'SubnetConsensusSubmission', [subnet.id, epoch])
  checks.equal('progress', fieldOf(stored, 'validator_epoch_progress'), progress)
  const factor = bigOf(fieldOf(stored, 'validator_reward_factor'))
  checks.that(`timing factor ${factor} as by the rules`, near(factor, proposerFactor(progress)))
}

async function attestAll(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  others: readonly ScriptNode[],
  epoch: number,
): Promise<void> {
  const { ledger } = script
  const { epochBlocks } = ledger.info
  for (const node of others) {
    const done = await script.send(attest(subnet.id), node.hotkey, checks)
    const event = eventOf(done.events, 'Attestation')
    checks.equal(
      'event',
      [event['subnet_id'], event['subnet_node_id'], event['epoch']],
      [subnet.id, node.id, epoch],
    )
    checks.equal('fee', feeOf(done.events), 0n)
    const stored = await ledger.storage(
      'Network',
      'SubnetConsensusSubmission',
      [subnet.id, epoch],
      done.blockHash,
    )
    const entry = listOf(fieldOf(stored, 'attests'))
      .map(listOf)
      .find(([id]) => id === node.id)?.[1]
    const proposed = Number(fieldOf(stored, 'block'))
    const left = epochBlocks - ((proposed - subnet.slot) % epochBlocks)
    const progress = percentDiv(BigInt(done.blockNumber - proposed), BigInt(left))
    checks.equal('progress', fieldOf(entry, 'attestor_progress'), progress)
    const factor = bigOf(fieldOf(entry, 'reward_factor'))
    checks.that(`timing factor ${factor} as by the rules`, near(factor, attestorFactor(progress)))
  }
  const [first] = others
  if (first !== undefined)
    await script.refused('a second attestation', attest(subnet.id), first.hotkey, ['AlreadyAttested'], checks)
  const consensus = await ledger.consensus(subnet.id, epoch)
  checks.equal(
    'who attested',
    consensus?.attestors.toSorted(byNumber),
    subnet.nodes.map(({ id }) => id),
  )
}

/** What the block that begins the next subnet epoch did, and the states before and after it. */
async function settled(
  script: Script,
  subnet: ScriptSubnet,
  epoch: number,
): Promise<{
  readonly block: LedgerBlock
  readonly before: readonly SubnetNode[]
  readonly after: readonly SubnetNode[]
}> {
  const block = await script.until((epoch + 1) * script.ledger.info.epochBlocks + subnet.slot)
  const [before, after] = await Promise.all([
    script.ledger.nodes(subnet.id, block.parentHash),
    script.ledger.nodes(subnet.id, block.hash),
  ])
  return { block, before, after }
}

async function judgeRewards(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  epoch: number,
): Promise<void> {
  const { ledger } = script
  const { block, before, after } = await settled(script, subnet, epoch)
  checks.saw(block.events)
  const at = block.parentHash
  const read = (item: string, keys: readonly number[] = []): Promise<bigint> => script.integer(item, keys, at)
  const emissions = await ledger.storage(
    'Network',
    'FinalSubnetEmissionWeights',
    [Math.floor(block.number / ledger.info.epochBlocks)],
    at,
  )
  const weight = listOf(fieldOf(emissions, 'weights'))
    .map(listOf)
    .find(([id]) => id === subnet.id)?.[1]
  const emission = bigOf(fieldOf(emissions, 'validator_emissions'))
  await judgeEmission(script, checks, emission, at)
  const payout = subnetPayout(
    emission,
    bigOf(weight),
    await read('SubnetOwnerPercentage'),
    await read('SubnetDelegateStakeRewardsPercentage', [subnet.id]),
  )
  const stored = await ledger.storage('Network', 'SubnetConsensusSubmission', [subnet.id, epoch], at)
  const consensus = await ledger.consensus(subnet.id, epoch, at)
  if (consensus === undefined) throw new ChoraleError('ledger', `nothing was proposed in epoch ${epoch}`)
  const attests = new Map(
    listOf(fieldOf(stored, 'attests')).map((entry) => [listOf(entry)[0], listOf(entry)[1]]),
  )
  const all = consensus.scores.reduce((sum, { score }) => sum + score, 0n)
  const rewards = consensus.scores.map(({ nodeId, score }) => {
    const entry = attests.get(nodeId)
    const factor = entry === undefined ? ONE : bigOf(fieldOf(entry, 'reward_factor'))
    return [nodeId, nodeReward(score, all, payout.nodes, factor)] as const
  })
  const event = eventOf(block.events, 'SubnetRewards')
  checks.equal(
    'rewards',
    event['node_rewards'],
    rewards.filter(([, amount]) => amount > 0n),
  )
  checks.equal("delegators' reward", event['delegate_stake_reward'], payout.delegators)
  const extra = percentMul(
    await read('BaseValidatorReward'),
    bigOf(fieldOf(stored, 'validator_reward_factor')),
  )
  for (const node of before) {
    const reward = rewards.find(([id]) => id === node.id)?.[1] ?? 0n
    const grown = (after.find(({ id }) => id === node.id)?.stake ?? 0n) - node.stake
    checks.equal(
      `stake of node ${node.id} grew by`,
      grown,
      reward + (node.id === consensus.proposer ? extra : 0n),
    )
    await judgeRise(script, checks, subnet.id, node, after, at)
  }
  const pool = (hash: string): Promise<bigint> =>
    script.integer('TotalSubnetDelegateStakeBalance', [subnet.id], hash)
  checks.equal('the pool grew by', (await pool(block.hash)) - (await pool(at)), payout.delegators)
  const owner = script.options.funder.address
  const paid = (await ledger.balance(owner, block.hash)) - (await ledger.balance(owner, at))
  const spent = block.events.filter(
    ({ extrinsic, name }) => extrinsic !== undefined && name === 'TransactionFeePaid',
  )
  if (spent.length === 0) checks.equal('the owner got', paid, payout.owner)
}

/** An epoch's emission follows from how many of the network's places are taken. */
async function judgeEmission(script: Script, checks: Checks, emission: bigint, at: string): Promise<void> {
  const [active, subnets, nodes] = await Promise.all([
    script.integer('TotalActiveNodes', [], at),
    script.integer('MaxSubnets', [], at),
    script.integer('MaxSubnetNodes', [], at),
  ])
  const year = 5_256_000
  const expected = epochEmission(
    Number(active) / Number(subnets * nodes),
    Math.floor(year / script.ledger.info.epochBlocks),
  )
  const difference = emission > expected ? emission - expected : expected - emission
  checks.that(`emission ${emission} as by the rules ${expected}`, difference <= expected / 10n ** 9n)
}

/** Reputation below 100 % rises: by the rule of main, `r + r^(1+f)·f`, or the older `r + (1-r)·f`. */
async function judgeRise(
  script: Script,
  checks: Checks,
  subnetId: number,
  node: SubnetNode,
  after: readonly SubnetNode[],
  at: string,
): Promise<void> {
  if (node.reputation === ONE) return
  const factor = await script.integer('IncludedIncreaseReputationFactor', [subnetId], at)
  const now = after.find(({ id }) => id === node.id)?.reputation ?? 0n
  const rules = [
    increaseReputation(node.reputation, factor),
    node.reputation + percentMul(ONE - node.reputation, factor),
  ]
  checks.that(
    `reputation of node ${node.id} rose from ${node.reputation} to ${now} (by the rules ${rules.join(' or ')})`,
    rules.some((expected) => near(now, expected)),
  )
}

async function judgeSlash(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  { epoch, elected }: { readonly epoch: number; readonly elected: ScriptNode },
): Promise<void> {
  const { block, before, after } = await settled(script, subnet, epoch)
  checks.saw(block.events)
  const at = block.parentHash
  const read = (item: string, keys: readonly number[] = []): Promise<bigint> => script.integer(item, keys, at)
  const least = await read('MinAttestationPercentage')
  const ratio = percentDiv(1n, BigInt(subnet.nodes.length))
  const d = shortfall(ratio, least)
  const was = before.find(({ id }) => id === elected.id)
  const is = after.find(({ id }) => id === elected.id)
  const stake = was?.stake ?? 0n
  const slash = slashAmount(
    stake,
    ratio,
    least,
    await read('BaseSlashPercentage'),
    await read('MaxSlashAmount'),
  )
  const event = eventOf(block.events, 'Slashing')
  checks.equal('slashed', [event['account_id'], event['amount']], [elected.hotkey.address, slash])
  checks.equal('stake left', is?.stake, stake - slash)
  const asProposer = decreaseReputation(
    was?.reputation ?? 0n,
    percentMul(await read('ValidatorNonConsensusSubnetNodeReputationFactor', [subnet.id]), d),
  )
  const asAttestor = decreaseReputation(
    asProposer,
    percentMul(await read('NonConsensusAttestorDecreaseReputationFactor', [subnet.id]), d),
  )
  checks.equal('reputation left', is?.reputation, asAttestor)
  const fall = await read('NotInConsensusSubnetReputationFactor')
  const standing = await read('SubnetReputation', [subnet.id])
  const left = await script.integer('SubnetReputation', [subnet.id], block.hash)
  // The whole factor in the released runtime, its share of the shortfall on main.
  const rules = [decreaseReputation(standing, fall), decreaseReputation(standing, percentMul(fall, d))]
  checks.that(`subnet's reputation ${left} (by the rules ${rules.join(' or ')})`, rules.includes(left))
  checks.that('nobody was paid', !block.events.some(({ name }) => name === 'SubnetRewards'))
  for (const node of before) {
    if (node.id !== elected.id)
      checks.equal(`stake of node ${node.id}`, after.find(({ id }) => id === node.id)?.stake, node.stake)
  }
}

function byNumber(a: number, b: number): number {
  return a - b
}
