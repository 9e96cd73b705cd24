import { ChoraleError } from '../../src/errors.ts'
import { formatAmount, parseAmount } from '../../src/ledger/amounts.ts'
import {
  addDelegateStake,
  addStake,
  claimUnbondings,
  registerNode,
  removeDelegateStake,
  removeNode,
  removeStake,
} from '../../src/ledger/calls.ts'
import { percentMul } from '../../src/ledger/formulas.ts'
import type { Ledger, LedgerCall, Subnet } from '../../src/ledger/ledger.ts'
import { base58Bytes } from '../../src/ledger/multiaddr-bytes.ts'
import { walletStrings } from '../strings-wallet.ts'
import type { Overview, Position } from './overview.ts'

/** What a person wants; amounts as typed, `all` where all can be meant. */
export type Wish =
  | { readonly kind: 'bond'; readonly position: Position; readonly amount: string }
  | { readonly kind: 'unbond'; readonly position: Position; readonly amount: string }
  | { readonly kind: 'claim' }
  | { readonly kind: 'delegate'; readonly subnetId: number; readonly amount: string }
  | { readonly kind: 'undelegate'; readonly subnetId: number; readonly amount: string }
  | {
      readonly kind: 'register'
      readonly subnetId: number
      readonly peerId: string
      readonly hotkey: string
      readonly amount: string
    }
  | { readonly kind: 'remove'; readonly position: Position }

/** A call as a person reads it before anything is signed. */
export interface PlannedCall {
  readonly call: LedgerCall
  /** `Stake 100 TENSOR for node 3 of subnet storyteller (128001)`. */
  readonly title: string
  /** Leaves the free balance at once, the fee not included; at most. */
  readonly amount: bigint
  /** What happens then. */
  readonly notes: readonly string[]
}

const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{32,128}$/
const PEER_BYTES = 32
const words = walletStrings.plans

/** Turns a wish into a call with its summary. @throws `bad_config` saying which number or name does not fit, and what would. */
export async function planCall(
  ledger: Ledger,
  account: string,
  overview: Overview,
  wish: Wish,
): Promise<PlannedCall> {
  const { info } = ledger
  const say = (amount: bigint) => formatAmount(amount, info)
  switch (wish.kind) {
    case 'bond': {
      const { position } = wish
      const { node, stake } = position
      if (node === undefined) throw bad('node', words.noNode)
      const amount = positive(wish.amount, info.tokenDecimals)
      const subnet = subnetOf(overview, position.subnetId)
      if (stake + amount > subnet.maxStake) {
        throw bad('amount', words.tooMuchStake(say(subnet.maxStake), say(subnet.maxStake - stake)))
      }
      return {
        call: addStake(subnet.id, node.id, position.hotkey, amount),
        title: words.bond(say(amount), node.id, nameOf(subnet)),
        amount,
        notes: [words.bondNote(say(stake), say(stake + amount))],
      }
    }
    case 'unbond': {
      const { node, stake, hotkey, subnetId } = wish.position
      const amount = amountOrAll(wish.amount, stake, info.tokenDecimals)
      const subnet = subnetOf(overview, subnetId)
      if (amount > stake) throw bad('amount', words.moreThan(say(amount), say(stake)))
      if (node !== undefined && stake - amount < subnet.minStake) {
        throw bad('amount', words.keepLeast(say(subnet.minStake), say(most(stake - subnet.minStake))))
      }
      return {
        call: removeStake(subnetId, hotkey, amount),
        title: words.unbond(say(amount), nameOf(subnet)),
        amount: 0n,
        notes: [await cooldown(ledger, overview, 'StakeCooldownEpochs')],
      }
    }
    case 'claim': {
      const ready = overview.unbondings.filter(({ block }) => block <= overview.block + 1)
      if (ready.length === 0) throw bad('unbonding', words.nothingToClaim)
      const sum = ready.reduce((all, { amount }) => all + amount, 0n)
      return { call: claimUnbondings(), title: words.claim(say(sum)), amount: 0n, notes: [words.claimNote] }
    }
    case 'delegate': {
      const subnet = subnetOf(overview, wish.subnetId)
      const amount = positive(wish.amount, info.tokenDecimals)
      return {
        call: addDelegateStake(subnet.id, amount),
        title: words.delegate(say(amount), nameOf(subnet)),
        amount,
        notes: [words.delegateNote(say(subnet.delegateStakeBalance))],
      }
    }
    case 'undelegate': {
      const subnet = subnetOf(overview, wish.subnetId)
      const own = overview.delegated.find(({ subnetId }) => subnetId === subnet.id)
      if (own === undefined) throw bad('subnet', words.nothingDelegated(subnet.name))
      const amount = amountOrAll(wish.amount, own.balance, info.tokenDecimals)
      if (amount > own.balance) throw bad('amount', words.moreThan(say(amount), say(own.balance)))
      const shares = amount === own.balance ? own.shares : (own.shares * amount) / own.balance
      return {
        call: removeDelegateStake(subnet.id, shares),
        title: words.undelegate(say(amount), nameOf(subnet)),
        amount: 0n,
        notes: [await cooldown(ledger, overview, 'DelegateStakeCooldownEpochs')],
      }
    }
    case 'register':
      return await planRegistration(ledger, account, overview, wish)
    case 'remove': {
      const { node, subnetId, stake } = wish.position
      if (node === undefined) throw bad('node', words.noNode)
      return {
        call: removeNode(subnetId, node.id),
        title: words.remove(node.id, nameOf(subnetOf(overview, subnetId))),
        amount: 0n,
        notes: [words.removeNote(say(stake))],
      }
    }
  }
}

async function planRegistration(
  ledger: Ledger,
  account: string,
  overview: Overview,
  { subnetId, peerId, hotkey, amount }: Extract<Wish, { kind: 'register' }>,
): Promise<PlannedCall> {
  const { info } = ledger
  const say = (value: bigint) => formatAmount(value, info)
  const subnet = subnetOf(overview, subnetId)
  const peer = peerId.trim()
  if (!PEER_ID.test(peer) || base58Bytes(peer).length < PEER_BYTES) throw bad('peer', words.badPeer)
  const key = hotkey.trim()
  if (key === '') throw bad('hotkey', words.noHotkey)
  if (key.toLowerCase() === account.toLowerCase()) throw bad('hotkey', words.sameHotkey)
  const stake = amount.trim() === '' ? subnet.minStake : positive(amount, info.tokenDecimals)
  if (stake < subnet.minStake || stake > subnet.maxStake) {
    throw bad('amount', words.stakeRange(say(subnet.minStake), say(subnet.maxStake)))
  }
  const [base, rate] = await Promise.all([
    ledger.storage('Network', 'BaseNodeBurnAmount', []),
    ledger.storage('Network', 'CurrentNodeBurnRate', [subnetId]),
  ])
  const burn = percentMul(typeof base === 'bigint' ? base : 0n, typeof rate === 'bigint' ? rate : 0n)
  // The rate may rise until the call is in a block.
  const maxBurn = burn + burn / 10n
  return {
    call: registerNode({ subnetId, hotkey: key, peer: { peerId: peer }, stake, maxBurn }),
    title: words.register(nameOf(subnet), say(stake)),
    amount: stake + maxBurn,
    notes: [words.registerPeer(peer), words.registerHotkey(key), words.registerBurn(say(burn))],
  }
}

function subnetOf({ subnets }: Overview, id: number): Subnet {
  const found = subnets.find((subnet) => subnet.id === id)
  if (found === undefined) throw bad('subnet', words.noSubnet)
  return found
}

/** Names come from the ledger, where anybody may write one. */
function nameOf({ name, id }: Subnet): string {
  return `${name} (${id})`
}

function positive(text: string, decimals: number): bigint {
  const amount = parseAmount(text, decimals)
  if (amount === 0n) throw bad('amount', words.zero)
  return amount
}

function amountOrAll(text: string, all: bigint, decimals: number): bigint {
  return text.trim().toLowerCase() === words.all ? all : positive(text, decimals)
}

function most(amount: bigint): bigint {
  return amount < 0n ? 0n : amount
}

async function cooldown(
  ledger: Ledger,
  { block }: Overview,
  item: 'StakeCooldownEpochs' | 'DelegateStakeCooldownEpochs',
): Promise<string> {
  const epochs = await ledger.storage('Network', item, [])
  const blocks = (typeof epochs === 'number' ? epochs : 0) * ledger.info.epochBlocks
  return words.claimable(untilBlock(block + blocks, block, ledger.info.blockMs))
}

/** `in 80 blocks (about 8 min)`, or `now`. */
export function untilBlock(block: number, head: number, blockMs: number): string {
  const blocks = block - head
  if (blocks <= 0) return walletStrings.nowText
  const seconds = Math.round((blocks * blockMs) / 1000)
  const time =
    seconds < 120
      ? `${seconds} s`
      : seconds < 7200
        ? `${Math.round(seconds / 60)} min`
        : `${Math.round(seconds / 3600)} h`
  return walletStrings.inBlocks(blocks, time)
}

function bad(field: string, message: string): ChoraleError {
  return new ChoraleError('bad_config', message, { field })
}
