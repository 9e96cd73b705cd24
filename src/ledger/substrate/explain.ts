import { ChoraleError } from '../../errors.ts'
import { formatAmount } from '../amounts.ts'
import type { LedgerCall, LedgerInfo, LedgerValue } from '../ledger.ts'
import { DispatchError } from './dispatch-error.ts'
import type { State } from './state.ts'

/** Arguments that say how much a call wants. */
const AMOUNTS = ['stake_to_be_added', 'amount', 'value', 'max_cost']

/**
 * Adds the numbers to an error that names none: what was needed and had, or what the subnet's limits are. Other errors, and
 * those whose numbers can't be read, stay as they are.
 */
export async function explain(
  error: unknown,
  { args }: LedgerCall,
  account: string,
  info: LedgerInfo,
  openState: () => Promise<State>,
): Promise<unknown> {
  if (!(error instanceof DispatchError)) return error
  const say = (more: string): ChoraleError =>
    new ChoraleError('ledger', `${error.message} (${more})`, { cause: error, field: error.error })
  try {
    if (/^(NotEnoughBalance|InsufficientBalance|FundsUnavailable|Underflow)/.test(error.error)) {
      const wanted = AMOUNTS.map((name) => args[name]).find((value) => typeof value === 'bigint')
      const had = await freeBalance(await openState(), account)
      return say(
        `${typeof wanted === 'bigint' ? `${formatAmount(wanted, info)} and the fee are needed, ` : ''}${account} has ${formatAmount(had, info)}`,
      )
    }
    const limit = { MinStakeNotReached: 'SubnetMinStakeBalance', MaxStakeReached: 'SubnetMaxStakeBalance' }[
      error.error
    ]
    if (limit !== undefined) {
      const value = await (await openState()).get('Network', limit, [args['subnet_id']])
      if (typeof value === 'bigint') return say(`the limit is ${formatAmount(value, info)}`)
    }
  } catch {
    // The error itself matters more than its explanation.
  }
  return error
}

async function freeBalance(state: State, account: string): Promise<bigint> {
  const value = await state.get('System', 'Account', [account])
  const free = field(field(value, 'data'), 'free')
  return typeof free === 'bigint' ? free : 0n
}

function field(value: LedgerValue, name: string): LedgerValue {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Readonly<Record<string, LedgerValue>>)[name]
    : undefined
}
