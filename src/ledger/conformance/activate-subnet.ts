import { ChoraleError } from '../../errors.ts'
import { activateSubnet, addDelegateStake } from '../calls.ts'
import { minDelegateStake } from '../formulas.ts'
import { type Checks, eventOf, feeOf, type Script } from './script.ts'

/** Delegated above the least, which development chains may set to nothing. */
const FREE_DELEGATE_TOKENS = 100n
/** Longest wait for a subnet to be old enough, in epochs: a live chain asks for a day of them. */
const MAX_WAIT_EPOCHS = 60

/** Delegates what a subnet needs, and compares shares with the rules. */
export async function delegate(
  script: Script,
  checks: Checks,
  subnetId: number,
  nodes: number,
): Promise<void> {
  const { ledger, options } = script
  const { funder } = options
  const parts = [
    script.integer('TotalIssuance', [], undefined, 'Balances'),
    script.integer('TotalStake', []),
    script.integer('TotalDelegateStake', []),
    script.integer('TotalNodeDelegateStake', []),
    script.integer('TotalUnbondingBalance', []),
    script.integer('TotalAccountDelegateStake', []),
  ]
  const issuance = (await Promise.all(parts)).reduce((sum, part) => sum + part, 0n)
  const [factor, most, from, to] = await Promise.all([
    script.integer('MinSubnetDelegateStakeFactor', []),
    script.integer('MaxMinDelegateStakeMultiplier', []),
    script.integer('MinSubnetNodes', []),
    script.integer('MaxSubnetNodes', []),
  ])
  const least = minDelegateStake(issuance, nodes, factor, most, [Number(from), Number(to)])
  // A fifth more: the issuance grows while the subnet lives.
  const unit = 10n ** BigInt(ledger.info.tokenDecimals)
  const amount = (least * 6n) / 5n + FREE_DELEGATE_TOKENS * unit
  await script.refused(
    'a deposit below the least',
    addDelegateStake(subnetId, 999n),
    funder,
    ['MinDelegateStakeDepositNotReached'],
    checks,
  )
  if (least > 0n) {
    await script.refused(
      'activation without delegate stake',
      activateSubnet(subnetId),
      funder,
      ['SubnetActivationConditionsNotMetYet', 'MinSubnetRegistrationEpochsNotMet'],
      checks,
    )
  }
  const before = await ledger.balance(funder.address)
  const done = await script.send(addDelegateStake(subnetId, amount), funder, checks)
  const event = eventOf(done.events, 'SubnetDelegateStakeAdded')
  checks.equal('event', [event['0'], event['1'], event['2']], [subnetId, funder.address, amount])
  checks.equal(
    'paid',
    before - (await ledger.balance(funder.address, done.blockHash)) - feeOf(done.events),
    amount,
  )
  const stake = await ledger.delegateStake(funder.address, subnetId)
  checks.equal('shares of a first deposit', stake.shares, amount)
  checks.that(
    `worth ${stake.balance} of ${amount}`,
    stake.balance <= amount && amount - stake.balance < amount / 1000n + 1000n,
  )
}

/** Activates the subnet as soon as it may be. */
export async function activate(script: Script, checks: Checks, subnetId: number): Promise<void> {
  const { ledger, options } = script
  const { epochBlocks } = ledger.info
  const registered = await script.integer('SubnetRegistrationEpoch', [subnetId])
  const wait = await script.integer('MinSubnetRegistrationEpochs', [])
  const target = Number(registered + wait) * epochBlocks
  const head = await script.head()
  if (target - head > MAX_WAIT_EPOCHS * epochBlocks) {
    throw new ChoraleError(
      'not_supported',
      `this chain lets a subnet be activated ${wait} epochs after it was registered, in ${target - head} blocks: run the script on a development chain`,
    )
  }
  if (head + 1 < target) {
    await script.refused(
      'activation too early',
      activateSubnet(subnetId),
      options.funder,
      ['MinSubnetRegistrationEpochsNotMet'],
      checks,
    )
  }
  await script.until(Math.max(target, head))
  const done = await script.send(activateSubnet(subnetId), options.funder, checks)
  checks.equal('event', eventOf(done.events, 'SubnetActivated')['subnet_id'], subnetId)
  const subnet = await ledger.subnet(subnetId)
  checks.equal('state', subnet?.state, 'Active')
  checks.equal('start epoch', subnet?.startEpoch, Math.floor(done.blockNumber / epochBlocks) + 1)
  await script.refused(
    'activation twice',
    activateSubnet(subnetId),
    options.funder,
    ['SubnetActivatedAlready'],
    checks,
  )
}
