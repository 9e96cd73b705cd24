import { describe, expect, it } from 'vitest'
import { disputesPallet } from '../../../../../src/ledger/devnet/native/disputes.ts'
import { guardExit } from '../../../../../src/ledger/devnet/native/disputes/exit-guard.ts'
import type { DisputeRecord } from '../../../../../src/ledger/devnet/native/disputes/records.ts'
import { countVotes } from '../../../../../src/ledger/devnet/native/disputes/settlement.ts'
import { TREASURY } from '../../../../../src/ledger/devnet/native/network/state.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, type ChainEvent, TestChain, text, TOKEN } from '../network/chain.ts'
import {
  activeSubnet,
  coldkey,
  elected,
  endow,
  hotkey,
  nextStep,
  OWNER,
  type Subnet,
  subnetEpoch,
} from '../network/subnet.ts'

const EVIDENCE = new Uint8Array(32).fill(7)
const BOND = TOKEN

function disputed(nodes = 6): Subnet {
  const endowed = endow(nodes + 8)
  for (let i = 1; i <= nodes; i++) endowed[hotkey(i)] = 10n * TOKEN
  const chain = new TestChain({
    endowed,
    pallets: [disputesPallet({ epochBlocks: 20, local: true })],
    guardExit,
  })
  const subnet = activeSubnet(nodes, 20, chain)
  nextStep(subnet)
  return subnet
}

const read = ({ chain, id }: Subnet, dispute = 0): DisputeRecord =>
  chain.state.get('Disputes.Disputes', [id, dispute]) as DisputeRecord

function call(
  { chain, id }: Subnet,
  who: string | undefined,
  name: string,
  args: Record<string, LedgerValue>,
): ChainEvent[] {
  return chain.call(who, name, { subnet_id: id, ...args }, 'Disputes')
}

function error({ chain, id }: Subnet, who: string, name: string, args: Record<string, LedgerValue>): string {
  return chain.error(who, name, { subnet_id: id, ...args }, 'Disputes')
}

const accuse = (subnet: Subnet, plaintiff: number, defendant: number): ChainEvent[] =>
  call(subnet, hotkey(plaintiff), 'propose', {
    subnet_node_id: plaintiff,
    defendant_node_id: defendant,
    evidence: EVIDENCE,
    data: text('receipts'),
  })

const votes = (subnet: Subnet, yay: readonly number[], nay: readonly number[]): void => {
  for (const node of [...yay, ...nay])
    call(subnet, hotkey(node), 'vote', { proposal_id: 0, subnet_node_id: node, yay: yay.includes(node) })
}

/** Everything there is, bonds included. */
const supply = ({ chain }: Subnet): bigint =>
  chain.supply() + (chain.state.get('Disputes.TotalBonds') as bigint)

/** Passes the period without the subnet losing its nodes' reputation. */
const pass = ({ chain }: Subnet): void => void chain.goTo(chain.block + 40)

describe('disputesPallet', () => {
  it('propose: bond taken and stored, plaintiff counted, the accused held, ids in the event', () => {
    const subnet = disputed()
    const { chain, id } = subnet
    const before = chain.free(hotkey(1))
    const events = accuse(subnet, 1, 2)
    expect(events.at(-1)).toEqual({
      pallet: 'Disputes',
      name: 'DishonestSubnetNodeProposed',
      data: { subnet_id: id, proposal_id: 0, subnet_node_id: 1, defendant_node_id: 2, block: chain.block },
    })
    expect(read(subnet)).toMatchObject({
      plaintiff: 1,
      defendant: 2,
      plaintiff_bond: BOND,
      defendant_bond: 0n,
      start_block: chain.block,
      challenge_block: undefined,
      voters: [3, 4, 5, 6],
      yay: [1],
      nay: [],
      evidence: EVIDENCE,
      outcome: 'Open',
    })
    expect(chain.free(hotkey(1))).toBe(before - BOND)
    expect(chain.state.get('Disputes.TotalBonds')).toBe(BOND)
    expect(
      ['remove_stake', 'remove_subnet_node', 'update_hotkey'].map((name) =>
        chain
          .error(coldkey(2), name, {
            subnet_id: id,
            hotkey: hotkey(2),
            stake_to_be_removed: 1n,
            subnet_node_id: 2,
            old_hotkey: hotkey(2),
            new_hotkey: account(12_345),
          })
          .replace(/^Elected.*/, 'NodeHasActiveProposal')
          .replace('MinStakeNotReached', 'NodeHasActiveProposal'),
      ),
    ).toEqual(Array.from({ length: 3 }, () => 'NodeHasActiveProposal'))
  })

  it('unchallenged: after the period anybody settles it, node removed, whole stake to the treasury', () => {
    const subnet = disputed()
    const { chain, id } = subnet
    const all = supply(subnet)
    accuse(subnet, 1, 2)
    const stake = chain.net.big('AccountSubnetStake', hotkey(2), id)
    const plaintiff = chain.free(hotkey(1))
    const treasury = chain.free(TREASURY)
    expect(error(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })).toBe(
      'ProposalChallengePeriodNotPassed',
    )
    expect(supply(subnet)).toBe(all)
    pass(subnet)
    const minted = chain.free(TREASURY) - treasury
    const events = call(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })
    expect(
      events
        .filter(({ name }) => /Removed|Slashed|Finalized/.test(name))
        .map(({ name, data }) => ({ name, data })),
    ).toEqual([
      { name: 'SubnetNodeRemoved', data: { subnet_id: id, subnet_node_id: 2 } },
      {
        name: 'DefendantSlashed',
        data: { subnet_id: id, proposal_id: 0, subnet_node_id: 2, account_id: hotkey(2), amount: stake },
      },
      {
        name: 'ProposalFinalized',
        data: { subnet_id: id, proposal_id: 0, plaintiff: 1, defendant: 2, outcome: 'Upheld' },
      },
    ])
    expect(chain.free(TREASURY)).toBe(treasury + minted + stake)
    expect(chain.free(hotkey(1))).toBe(plaintiff + BOND)
    expect(chain.net.big('AccountSubnetStake', hotkey(2), id)).toBe(0n)
    expect(chain.net.has('SubnetNodesData', id, 2)).toBe(false)
    expect(chain.net.get('SubnetNodeElectionSlots', id)).not.toContain(2)
    expect(chain.state.get('Disputes.TotalBonds')).toBe(0n)
    expect(read(subnet)).toMatchObject({ outcome: 'Upheld', plaintiff_bond: 0n })
    expect(error(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })).toBe('ProposalComplete')
  })

  it('upheld: the defendant bond is split over yay voters, the remainder goes to the plaintiff', () => {
    const subnet = disputed()
    const { chain } = subnet
    call(subnet, undefined, 'set_proposal_bid_amount', { value: TOKEN + 3n })
    const bond = TOKEN + 3n
    const start = [1, 2, 3, 4, 5, 6].map((i) => chain.free(hotkey(i)))
    accuse(subnet, 1, 2)
    call(subnet, hotkey(2), 'challenge_proposal', { proposal_id: 0, data: text('not so') })
    votes(subnet, [3, 4, 5, 6], [])
    expect(error(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })).toBe(
      'ProposalVotingPeriodNotPassed',
    )
    pass(subnet)
    call(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })
    expect(read(subnet)).toMatchObject({ outcome: 'Upheld', yay: [1, 3, 4, 5, 6], nay: [2] })
    const share = bond / 5n
    expect([1, 2, 3, 4, 5, 6].map((i) => chain.free(hotkey(i)) - (start[i - 1] ?? 0n))).toEqual([
      share + (bond - 5n * share),
      -bond,
      share,
      share,
      share,
      share,
    ])
    expect(chain.state.get('Disputes.TotalBonds')).toBe(0n)
  })

  it('dismissed: the mirror image, and the accused keeps node and stake', () => {
    const subnet = disputed()
    const { chain, id } = subnet
    const start = [1, 2, 3, 4, 5, 6].map((i) => chain.free(hotkey(i)))
    const stake = chain.net.big('AccountSubnetStake', hotkey(2), id)
    accuse(subnet, 1, 2)
    call(subnet, hotkey(2), 'challenge_proposal', { proposal_id: 0, data: text('') })
    votes(subnet, [], [3, 4, 5, 6])
    pass(subnet)
    call(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })
    expect(read(subnet).outcome).toBe('Dismissed')
    const share = BOND / 5n
    expect([1, 2, 3, 4, 5, 6].map((i) => chain.free(hotkey(i)) - (start[i - 1] ?? 0n))).toEqual([
      -BOND,
      ...Array.from({ length: 5 }, () => share),
    ])
    expect(chain.net.big('AccountSubnetStake', hotkey(2), id)).toBe(stake)
    expect(chain.state.has('Disputes.Accused', [id, hotkey(2)])).toBe(false)
  })

  it('no quorum, a split vote, a cancelled proposal, a removed subnet: both bonds back, nobody harmed', () => {
    for (const end of ['quiet', 'split', 'cancel', 'subnet'] as const) {
      const subnet = disputed()
      const { chain, id } = subnet
      const start = [1, 2].map((i) => chain.free(hotkey(i)))
      accuse(subnet, 1, 2)
      if (end === 'cancel') call(subnet, hotkey(1), 'cancel_proposal', { proposal_id: 0 })
      else {
        call(subnet, hotkey(2), 'challenge_proposal', { proposal_id: 0, data: text('') })
        if (end === 'split') votes(subnet, [3, 4, 5], [6])
        if (end === 'quiet') votes(subnet, [3, 4], [])
        if (end === 'subnet') chain.call(OWNER, 'owner_deactivate_subnet', { subnet_id: id })
        else pass(subnet)
        call(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })
      }
      expect(read(subnet).outcome).toBe(end === 'cancel' || end === 'subnet' ? 'Cancelled' : 'NoQuorum')
      expect([1, 2].map((i) => chain.free(hotkey(i)))).toEqual(start)
      expect(chain.state.get('Disputes.TotalBonds')).toBe(0n)
      if (end !== 'subnet') expect(chain.net.has('SubnetNodesData', id, 2)).toBe(true)
    }
  })

  it('countVotes: quorum 66 %, threshold 90 % of those who are no party', () => {
    const all = Array.from({ length: 18 }, (_, i) => i + 3)
    const base = { ...read(disputedOnce()), voters: all }
    const outcome = (yay: number, nay: number): string =>
      countVotes(
        { ...base, yay: [1, ...all.slice(0, yay)], nay: [2, ...all.slice(yay, yay + nay)] },
        (TOKEN * 66n) / 100n,
        (TOKEN * 90n) / 100n,
      )
    expect(outcome(18, 0)).toBe('Upheld')
    expect(outcome(17, 1)).toBe('Upheld')
    expect(outcome(16, 2)).toBe('NoQuorum')
    expect(outcome(11, 0)).toBe('NoQuorum')
    expect(outcome(0, 17)).toBe('Dismissed')
    expect(countVotes({ ...base, voters: [] }, 1n, TOKEN)).toBe('NoQuorum')
  })

  it('every error is reached and leaves nothing behind', () => {
    const subnet = disputed()
    const { chain, id } = subnet
    const proposal = (change: Record<string, LedgerValue> = {}): Record<string, LedgerValue> => ({
      subnet_node_id: 1,
      defendant_node_id: 2,
      evidence: EVIDENCE,
      data: text(''),
      ...change,
    })
    const got: string[] = []
    const fails = (who: string, name: string, args: Record<string, LedgerValue>): void => {
      const before = supply(subnet)
      got.push(error(subnet, who, name, args))
      expect(supply(subnet)).toBe(before)
    }
    fails(hotkey(1), 'propose', { ...proposal(), subnet_id: 1 })
    fails(coldkey(1), 'propose', proposal())
    fails(hotkey(1), 'propose', proposal({ data: new Uint8Array(1025) }))
    fails(hotkey(1), 'propose', proposal({ defendant_node_id: 1 }))
    fails(hotkey(1), 'propose', proposal({ defendant_node_id: 99 }))
    chain.net.put('MinSubnetNodes', [], 7)
    fails(hotkey(1), 'propose', proposal())
    chain.net.put('MinSubnetNodes', [], 3)
    const live = chain.net.get<Record<string, LedgerValue>>('SubnetNodesData', id, 1)
    chain.net.put('SubnetNodesData', [id, 1], {
      ...live,
      classification: { node_class: 'Included', start_epoch: 0 },
    })
    fails(hotkey(1), 'propose', proposal())
    chain.net.put('SubnetNodesData', [id, 1], live)
    chain.state.set('Disputes.ProposalBidAmount', [], 10n ** 30n)
    fails(hotkey(1), 'propose', proposal())
    chain.state.set('Disputes.ProposalBidAmount', [], TOKEN)
    accuse(subnet, 1, 2)
    fails(hotkey(3), 'propose', proposal({ subnet_node_id: 3 }))
    fails(hotkey(3), 'vote', { proposal_id: 0, subnet_node_id: 3, yay: true })
    fails(hotkey(3), 'challenge_proposal', { proposal_id: 0, data: text('') })
    fails(hotkey(2), 'challenge_proposal', { proposal_id: 9, data: text('') })
    fails(hotkey(3), 'cancel_proposal', { proposal_id: 0 })
    call(subnet, hotkey(2), 'challenge_proposal', { proposal_id: 0, data: text('') })
    fails(hotkey(2), 'challenge_proposal', { proposal_id: 0, data: text('') })
    fails(hotkey(2), 'vote', { proposal_id: 0, subnet_node_id: 2, yay: false })
    votes(subnet, [3], [])
    fails(hotkey(3), 'vote', { proposal_id: 0, subnet_node_id: 3, yay: false })
    pass(subnet)
    fails(hotkey(4), 'vote', { proposal_id: 0, subnet_node_id: 4, yay: false })
    call(subnet, OWNER, 'finalize_proposal', { proposal_id: 0 })
    accuse(subnet, 1, 2)
    pass(subnet)
    fails(hotkey(2), 'challenge_proposal', { proposal_id: 1, data: text('') })
    fails(hotkey(2), 'submit_accountant_data', { subnet_node_id: 2, subnet_epoch: 0, data: text('') })
    expect(got).toEqual([
      'SubnetNotExist',
      'NotNodeHotkey',
      'DataTooLong',
      'PlaintiffIsDefendant',
      'PeerIdNotExist',
      'SubnetNodesMin',
      'NodeAccountantEpochNotReached',
      'NotEnoughBalanceToBid',
      'NodeHasActiveProposal',
      'ProposalUnchallenged',
      'NotDefendant',
      'ProposalInvalid',
      'NotPlaintiff',
      'ProposalChallenged',
      'NotEligible',
      'DuplicateVote',
      'ProposalVotingPeriodPassed',
      'ProposalChallengePeriodPassed',
      'AccountantEpochInvalid',
    ])
    expect(chain.error(OWNER, 'set_voting_period', { value: 1 }, 'Disputes')).toBe('BadOrigin')
    expect(chain.error(undefined, 'set_voting_period', { value: 0 }, 'Disputes')).toBe('InvalidParameter')
    expect(
      chain.error(undefined, 'set_proposal_consensus_threshold', { value: TOKEN / 2n }, 'Disputes'),
    ).toBe('InvalidParameter')
  })

  it('accountants: as many as asked for, Validators, other ones in other epochs; each files once', () => {
    const subnet = disputed()
    const { chain, id } = subnet
    const seen = new Set<string>()
    for (let i = 0; i < 6; i++) {
      const epoch = subnetEpoch(subnet)
      const chosen = chain.state.get('Disputes.Accountants', [id, epoch]) as readonly number[]
      expect(chosen).toHaveLength(2)
      expect(chosen.every((node) => node >= 1 && node <= 6)).toBe(true)
      seen.add(chosen.join())
      const [first = 0] = chosen
      const other = [1, 2, 3, 4, 5, 6].find((node) => !chosen.includes(node)) ?? 0
      const args = { subnet_epoch: epoch, data: text('findings') }
      const events = call(subnet, hotkey(first), 'submit_accountant_data', { ...args, subnet_node_id: first })
      expect(events.at(-1)?.data).toEqual({ subnet_id: id, subnet_node_id: first, epoch })
      expect(error(subnet, hotkey(first), 'submit_accountant_data', { ...args, subnet_node_id: first })).toBe(
        'AccountantDataSubmitted',
      )
      expect(error(subnet, hotkey(other), 'submit_accountant_data', { ...args, subnet_node_id: other })).toBe(
        'NotAccountant',
      )
      nextStep(subnet)
    }
    expect(seen.size).toBeGreaterThan(1)
    chain.call(undefined, 'set_target_accountants', { value: 4 }, 'Disputes')
    nextStep(subnet)
    expect(chain.state.get('Disputes.Accountants', [id, subnetEpoch(subnet)])).toHaveLength(4)
    expect(elected(subnet)).toBeTypeOf('number')
  })

  it('random disputes conserve the supply to the last unit', () => {
    const subnet = disputed()
    const { chain } = subnet
    let seed = 5
    const random = (below: number): number => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed % below
    }
    const outcomes = new Set<string>()
    for (let round = 0; round < 600; round++) {
      const count = chain.state.get('Disputes.ProposalsCount', [subnet.id]) as number
      const proposal_id = random(4) === 0 ? random(Math.max(1, count)) : Math.max(0, count - 1)
      const node = 1 + random(6)
      const accused = count === 0 ? 0 : read(subnet, proposal_id).defendant
      const calls: readonly (readonly [string, Record<string, LedgerValue>])[] = [
        [
          'propose',
          { subnet_node_id: node, defendant_node_id: 1 + random(6), evidence: EVIDENCE, data: text('') },
        ],
        ['challenge_proposal', { proposal_id, data: text('') }],
        ['vote', { proposal_id: Math.max(0, count - 1), subnet_node_id: node, yay: random(5) > 0 }],
        ['cancel_proposal', { proposal_id }],
        ['finalize_proposal', { proposal_id }],
      ]
      const before = supply(subnet)
      const [name, args] = calls[random(8)] ?? ['vote', calls[2]?.[1] ?? {}]
      const who = hotkey(name === 'challenge_proposal' ? accused : node)
      if (name === 'cancel_proposal' && random(3) > 0) continue
      if (error(subnet, who, name, args) === '') call(subnet, who, name, args)
      expect(supply(subnet)).toBe(before)
      if (random(4) === 0) chain.goTo(chain.block + 3)
      for (const { value } of chain.state.entries('Disputes.Disputes', [subnet.id]))
        outcomes.add((value as DisputeRecord).outcome)
      const bonds = chain.state
        .entries('Disputes.Disputes', [subnet.id])
        .map(({ value }) => value as DisputeRecord)
        .reduce((sum, dispute) => sum + dispute.plaintiff_bond + dispute.defendant_bond, 0n)
      expect(chain.state.get('Disputes.TotalBonds')).toBe(bonds)
    }
    expect(outcomes.size).toBeGreaterThan(2)
  })
})

let once: Subnet | undefined
/** A subnet with one open dispute, made once. */
function disputedOnce(): Subnet {
  if (once === undefined) {
    once = disputed()
    accuse(once, 1, 2)
  }
  return once
}
