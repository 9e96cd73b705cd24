import { ChoraleError } from '../../errors.ts'
import {
  decreaseReputation,
  epochEmission,
  increaseReputation,
  near,
  nodeReward,
  ONE,
  percentDiv,
  percentMul,
  shortfall,
  slashAmount,
  subnetPayout,
} from '../formulas.ts'
import type { LedgerBlock, SubnetNode } from '../ledger.ts'
import type { ScriptNode, ScriptSubnet } from './found-subnet.ts'
import { bigOf, type Checks, eventOf, fieldOf, listOf, type Script } from './script.ts'

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

/** Compares an epoch's payout with the rules. */
export async function judgeRewards(
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

/** Compares the slash of a proposal that nobody attested with the rules. */
export async function judgeSlash(
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
