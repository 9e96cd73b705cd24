import { addIssuance, EXISTENTIAL_DEPOSIT, readAccount, writeFree } from './balances-context.ts'
import { arithmeticFailure, ensureRoot, ensureSigned, tokenFailure } from './dispatch-error.ts'
import { systemOf } from './state.ts'
import type { EventDefinition, PalletContext, PalletDefinition } from './pallet.ts'

/** Money of accounts, with the weights of Hypertensor's runtime. `endowed`: what they have at genesis, smallest units. */
export function balancesPallet(endowed: Readonly<Record<string, bigint>>): PalletDefinition {
  return {
    name: 'Balances',
    index: 4,
    types: {
      BalanceStatus: {
        path: 'frame_support::traits::tokens::misc::BalanceStatus',
        variants: { Free: [], Reserved: [] },
      },
    },
    storage: [
      { name: 'TotalIssuance', keys: [], type: 'u128', default: 0n },
      { name: 'InactiveIssuance', keys: [], type: 'u128', default: 0n },
    ],
    calls: [
      {
        index: 0,
        name: 'transfer_allow_death',
        weight: 176_105_000n,
        args: { dest: 'AccountId20', value: 'Compact<u128>' },
        dispatch: (context, origin, args) =>
          transfer(context, ensureSigned(origin), args['dest'] as string, args['value'] as bigint, false),
      },
      {
        index: 2,
        name: 'force_transfer',
        weight: 302_600_000n,
        args: { source: 'AccountId20', dest: 'AccountId20', value: 'Compact<u128>' },
        dispatch(context, origin, args) {
          ensureRoot(origin)
          transfer(context, args['source'] as string, args['dest'] as string, args['value'] as bigint, false)
        },
      },
      {
        index: 3,
        name: 'transfer_keep_alive',
        weight: 165_655_000n,
        args: { dest: 'AccountId20', value: 'Compact<u128>' },
        dispatch: (context, origin, args) =>
          transfer(context, ensureSigned(origin), args['dest'] as string, args['value'] as bigint, true),
      },
      {
        index: 4,
        name: 'transfer_all',
        weight: 176_205_000n,
        args: { dest: 'AccountId20', keep_alive: 'bool' },
        dispatch(context, origin, args) {
          const from = ensureSigned(origin)
          const keepAlive = args['keep_alive'] as boolean
          const all = context.balances.free(from) - (keepAlive ? EXISTENTIAL_DEPOSIT : 0n)
          transfer(context, from, args['dest'] as string, all < 0n ? 0n : all, keepAlive)
        },
      },
      {
        index: 8,
        name: 'force_set_balance',
        weight: 147_287_000n,
        args: { who: 'AccountId20', new_free: 'Compact<u128>' },
        dispatch(context, origin, args) {
          ensureRoot(origin)
          forceSetBalance(context, args['who'] as string, args['new_free'] as bigint)
        },
      },
      {
        index: 10,
        name: 'burn',
        weight: 30_848_000n,
        args: { value: 'Compact<u128>', keep_alive: 'bool' },
        dispatch(context, origin, args) {
          const who = ensureSigned(origin)
          const amount = args['value'] as bigint
          const left = remaining(context, who, amount, args['keep_alive'] as boolean)
          writeFree(context, systemOf(context), who, left)
          addIssuance(context, -amount)
          context.emit('Burned', { who, amount })
        },
      },
    ],
    events: EVENTS,
    errors: [
      'VestingBalance',
      'LiquidityRestrictions',
      'InsufficientBalance',
      'ExistentialDeposit',
      'Expendability',
      'ExistingVestingSchedule',
      'DeadAccount',
      'TooManyReserves',
      'TooManyHolds',
      'TooManyFreezes',
      'IssuanceDeactivated',
      'DeltaZero',
    ],
    constants: [
      { name: 'ExistentialDeposit', type: 'u128', value: EXISTENTIAL_DEPOSIT },
      { name: 'MaxLocks', type: 'u32', value: 50 },
      { name: 'MaxReserves', type: 'u32', value: 50 },
      { name: 'MaxFreezes', type: 'u32', value: 50 },
    ],
    genesis(context) {
      for (const [account, amount] of Object.entries(endowed)) context.balances.deposit(account, amount)
    },
  }
}

function transfer(
  context: PalletContext,
  from: string,
  to: string,
  amount: bigint,
  keepAlive: boolean,
): void {
  if (amount > context.balances.issuance()) arithmeticFailure('Underflow')
  if (amount === 0n || from === to) {
    if (amount > context.balances.free(from)) tokenFailure('FundsUnavailable')
    if (from !== to && amount === 0n) context.emit('Transfer', { from, to, amount })
    return
  }
  const left = remaining(context, from, amount, keepAlive)
  const target = context.balances.free(to) + amount
  if (target < EXISTENTIAL_DEPOSIT) tokenFailure('BelowMinimum')
  if (target >= 1n << 128n) arithmeticFailure('Overflow')
  const system = systemOf(context)
  writeFree(context, system, from, left)
  writeFree(context, system, to, target)
  context.emit('Transfer', { from, to, amount })
}

/** What an account keeps when `amount` leaves it. @throws DispatchFailure as `fungible`'s withdraw consequences. */
function remaining(context: PalletContext, who: string, amount: bigint, keepAlive: boolean): bigint {
  const left = readAccount(context, who).data.free - amount
  if (left < 0n) tokenFailure('FundsUnavailable')
  if (keepAlive && left < EXISTENTIAL_DEPOSIT) tokenFailure('NotExpendable')
  return left
}

function forceSetBalance(context: PalletContext, who: string, wanted: bigint): void {
  const free = wanted < EXISTENTIAL_DEPOSIT ? 0n : wanted
  const before = context.balances.free(who)
  const issued = context.balances.issuance() + free - before
  if (issued >= 1n << 128n) arithmeticFailure('Overflow')
  writeFree(context, systemOf(context), who, free)
  addIssuance(context, free - before)
  if (free > before) context.emit('Issued', { amount: free - before })
  if (free < before) context.emit('Rescinded', { amount: before - free })
  context.emit('BalanceSet', { who, free })
}

const WHO = { who: 'AccountId20', amount: 'u128' }

/** By index. */
const EVENTS: readonly EventDefinition[] = (
  [
    ['Endowed', { account: 'AccountId20', free_balance: 'u128' }],
    ['DustLost', { account: 'AccountId20', amount: 'u128' }],
    ['Transfer', { from: 'AccountId20', to: 'AccountId20', amount: 'u128' }],
    ['BalanceSet', { who: 'AccountId20', free: 'u128' }],
    ['Reserved', WHO],
    ['Unreserved', WHO],
    [
      'ReserveRepatriated',
      { from: 'AccountId20', to: 'AccountId20', amount: 'u128', destination_status: 'BalanceStatus' },
    ],
    ['Deposit', WHO],
    ['Withdraw', WHO],
    ['Slashed', WHO],
    ['Minted', WHO],
    ['Burned', WHO],
    ['Suspended', WHO],
    ['Restored', WHO],
    ['Upgraded', { who: 'AccountId20' }],
    ['Issued', { amount: 'u128' }],
    ['Rescinded', { amount: 'u128' }],
    ['Locked', WHO],
    ['Unlocked', WHO],
    ['Frozen', WHO],
    ['Thawed', WHO],
    ['TotalIssuanceForced', { old: 'u128', new: 'u128' }],
  ] as const
).map(([name, fields], index) => ({ index, name, fields }))
