import type { LedgerValue } from '../../../ledger.ts'
import { ONE } from './fixed-point.ts'
import type { Handler, NetworkState } from './state.ts'

/** A condition on a parameter's new value, and the error when it does not hold. */
export type Check<T> = readonly [holds: (value: T, net: NetworkState) => boolean, error: string]

/** Sets one item of the whole network. */
export function one<T extends LedgerValue>(
  item: string,
  event: string,
  ...checks: readonly Check<T>[]
): Handler {
  return (net: NetworkState, args) => {
    const value = args['value'] as T
    for (const [holds, error] of checks) net.ensure(holds(value, net), error)
    net.put(item, [], value)
    net.emit(event, [value])
  }
}

/** Sets a least and a most; least is below most. */
export function range<T extends number | bigint>(
  minItem: string,
  maxItem: string,
  event: string,
  ...checks: readonly Check<{ readonly min: T; readonly max: T }>[]
): Handler {
  return (net: NetworkState, args) => {
    const limits = args as { readonly min: T; readonly max: T }
    net.ensure(limits.min < limits.max, 'InvalidValues')
    for (const [holds, error] of checks) net.ensure(holds(limits, net), error)
    net.put(minItem, [], limits.min)
    net.put(maxItem, [], limits.max)
    net.emit(event, [limits.min, limits.max])
  }
}

/** More than 0. */
export const positive = (error: string): Check<number> => [(value) => value > 0, error]
/** At most `limit`. */
export const upTo = (limit: number, error: string): Check<number> => [(value) => value <= limit, error]
/** At most 100 %. */
export const percent: Check<bigint> = [(value) => value <= ONE, 'InvalidPercent']
/** At least 100 %. */
export const wholeOrMore: Check<bigint> = [(value) => value >= ONE, 'InvalidPercent']
/** A range up to 100 %. */
export const maxPercent: Check<{ readonly max: bigint }> = [({ max }) => max <= ONE, 'InvalidPercent']
/** A range above 0. */
export const minPositive: Check<{ readonly min: number | bigint }> = [({ min }) => min > 0, 'InvalidValues']
