import { ChoraleError } from '../../errors.ts'
import { claimUnbondings, removeDelegateStake, removeNode, removeStake } from '../calls.ts'
import { balanceFor, subnetEpochOf } from '../formulas.ts'
import type { ScriptSubnet } from './found-subnet.ts'
import { eventOf, feeOf, type Script } from './script.ts'

/** A node leaves, its stake and part of the delegate stake are unbonded and claimed. @returns whether all steps ran. */
export async function leaveSubnet(script: Script, subnet: ScriptSubnet): Promise<boolean> {
  const { ledger, options } = script
  const { funder } = options
  const { epochBlocks } = ledger.info
  let leaver = subnet.nodes[0]
  let stake = 0n
  let claimable = 0
  return (
    (await script.step('unbond', async (checks) => {
      leaver = await notElected(script, subnet)
      const { coldkey, hotkey, id } = leaver
      await script.refused(
        'taking the stake of a live node',
        removeStake(subnet.id, hotkey.address, 10n ** 18n * 90n),
        coldkey,
        ['MinStakeNotReached', 'MinActiveNodeStakeEpochs'],
        checks,
      )
      const removed = await script.send(removeNode(subnet.id, id), hotkey, checks)
      checks.equal('removed', eventOf(removed.events, 'SubnetNodeRemoved')['subnet_node_id'], id)
      checks.equal(
        'nodes left',
        (await ledger.nodes(subnet.id)).some((node) => node.id === id),
        false,
      )
      checks.equal('proof of stake', await ledger.proofOfStake(subnet.id, leaver.peerId, 'Registered'), false)
      stake = await script.integer('AccountSubnetStake', [hotkey.address, subnet.id])
      await script.refused(
        'more than is staked',
        removeStake(subnet.id, hotkey.address, stake + 1n),
        coldkey,
        ['NotEnoughStakeToWithdraw'],
        checks,
      )
      const done = await script.send(removeStake(subnet.id, hotkey.address, stake), coldkey, checks)
      const cooldown = await script.integer('StakeCooldownEpochs', [])
      claimable = done.blockNumber + Number(cooldown) * epochBlocks
      checks.equal('unbonding', await ledger.unbondings(coldkey.address), [
        { block: claimable, amount: stake },
      ])
    })) &&
    (await script.step('undelegate', async (checks) => {
      const { shares } = await ledger.delegateStake(funder.address, subnet.id)
      const part = shares / 100n
      const done = await script.send(removeDelegateStake(subnet.id, part), funder, checks)
      const { parentHash } = await script.until(done.blockNumber)
      const amount = balanceFor(
        part,
        await script.integer('TotalSubnetDelegateStakeShares', [subnet.id], parentHash),
        await script.integer('TotalSubnetDelegateStakeBalance', [subnet.id], parentHash),
      )
      checks.equal('event', eventOf(done.events, 'SubnetDelegateStakeRemoved')['2'], amount)
      checks.equal(
        'shares left',
        (await ledger.delegateStake(funder.address, subnet.id)).shares,
        shares - part,
      )
      const cooldown = await script.integer('DelegateStakeCooldownEpochs', [])
      const block = done.blockNumber + Number(cooldown) * epochBlocks
      const entry = (await ledger.unbondings(funder.address)).find((one) => one.block === block)
      checks.equal('unbonding', entry?.amount, amount)
    })) &&
    (await script.step('claim', async (checks) => {
      const { coldkey } = leaver ?? { coldkey: funder }
      if ((await script.head()) + 1 < claimable) {
        await script.refused(
          'claiming too early',
          claimUnbondings(),
          coldkey,
          ['NoStakeUnbondingsOrCooldownNotMet'],
          checks,
        )
      }
      await script.until(claimable - 1)
      const before = await ledger.balance(coldkey.address)
      const done = await script.send(claimUnbondings(), coldkey, checks)
      const got = (await ledger.balance(coldkey.address, done.blockHash)) - before + feeOf(done.events)
      checks.equal('claimed', got, stake)
      checks.equal('unbondings left', await ledger.unbondings(coldkey.address), [])
    }))
  )
}

/** A node that is not elected now, at a time in the epoch that leaves room for two calls. */
async function notElected(script: Script, subnet: ScriptSubnet): Promise<ScriptSubnet['nodes'][number]> {
  const { ledger } = script
  const begins = script.nextSlot(await script.head(), subnet.slot)
  const { hash } = await script.until(begins)
  const { epoch } = subnetEpochOf(begins, subnet.slot, ledger.info.epochBlocks)
  const elected = await ledger.electedNode(subnet.id, epoch, hash)
  const node = subnet.nodes.find(({ id }) => id !== elected)
  if (node === undefined) throw new ChoraleError('ledger', 'all nodes are elected')
  return node
}
