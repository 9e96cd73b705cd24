import { describe, expect, it } from 'vitest'
import {
  attestorFactor,
  balanceFor,
  decreaseReputation,
  epochEmission,
  increaseReputation,
  minDelegateStake,
  nodeReward,
  ONE,
  proposerFactor,
  registrationCost,
  sharesFor,
  slashAmount,
  subnetEpochOf,
  subnetPayout,
} from '../../src/ledger/formulas.ts'

/** Worked values of the rules, rounded to six places. */
const six = (ratio: bigint): number => Math.round(Number(ratio) / 1e12) / 1e6
const share = (value: number): bigint => BigInt(Math.round(value * 1e6)) * 10n ** 12n
const LEAST = share(0.66)

describe('formulas give the worked values of the rules', () => {
  it.each([
    [0, 0.999955],
    [0.15, 0.999089],
    [0.25, 0.993307],
    [0.4, 0.880797],
    [0.5, 0.5],
    [0.6, 0.119203],
    [0.75, 0.006693],
    [1, 0.000045],
  ])('proposerFactor(%f) = %f', (progress, factor) =>
    expect(six(proposerFactor(share(progress)))).toBe(factor),
  )

  it.each([
    [0, 1],
    [0.5, 0.999346],
    [0.75, 0.96227],
    [0.9, 0.766385],
    [1, 0.33],
  ])('attestorFactor(%f) = %f', (progress, factor) =>
    expect(six(attestorFactor(share(progress)))).toBe(factor),
  )

  it('slashAmount: by shortfall, capped, nothing at the threshold', () => {
    expect(slashAmount(20n * ONE, share(0.33), LEAST)).toBe(share(0.3125))
    expect(slashAmount(100n * ONE, share(0.33), LEAST)).toBe(ONE)
    expect(slashAmount(100n * ONE, LEAST, LEAST)).toBe(0n)
  })

  it('reputations', () => {
    expect(six(increaseReputation(share(0.9), share(0.1)))).toBe(0.989057)
    expect(six(increaseReputation(share(0.5), share(0.1)))).toBe(0.546652)
    expect(six(increaseReputation(share(0.8), share(0.1125)))).toBe(0.887769)
    expect(decreaseReputation(ONE, share(0.1))).toBe(share(0.9))
  })

  it('epochEmission: 80 % of the yearly issuance', () => {
    const yearly = (use: number): number => Number(epochEmission(use, 1)) / 1e18 / 0.8
    expect(yearly(0)).toBeCloseTo(99_267.2, 1)
    expect(yearly(0.25)).toBeCloseTo(96_298.8, 1)
    expect(yearly(0.5)).toBeCloseTo(87_500, 1)
    expect(yearly(1)).toBeCloseTo(75_732.8, 1)
  })

  it('registrationCost halfway', () => {
    expect(six(registrationCost(ONE, ONE / 10n, 219_145, 438_290))).toBe(0.736396)
    expect(registrationCost(ONE, ONE / 10n, 438_290, 438_290)).toBe(ONE / 10n)
  })

  it('minDelegateStake at 3 and 256 electable nodes', () => {
    expect(minDelegateStake(1_000_000n * ONE, 3)).toBe(1000n * ONE)
    expect(minDelegateStake(1_000_000n * ONE, 256)).toBe(4000n * ONE)
  })

  it('shares and balances of a pool', () => {
    expect(sharesFor(110n * ONE, 1000n * ONE, 1100n * ONE) / 10n ** 12n).toBe(100_000_000n)
    expect(sharesFor(110_000_000n, 1000n, 1100n)).toBe(100_908_265n)
    expect(sharesFor(5n, 0n, 0n)).toBe(5n)
    expect(balanceFor(100n, 1000n, 1100n)).toBe(109n)
  })

  it('subnetPayout and nodeReward', () => {
    const payout = subnetPayout(100n * ONE, ONE / 4n, share(0.23), share(0.1))
    expect(payout).toEqual({
      overall: 25n * ONE,
      owner: share(5.75),
      delegators: share(1.925),
      nodes: share(17.325),
    })
    expect(nodeReward(3n, 4n, payout.nodes, ONE)).toBe(share(12.99375))
    expect(nodeReward(1n, 4n, payout.nodes, ONE)).toBe(share(4.33125))
  })

  it('subnetEpochOf', () => {
    expect(subnetEpochOf(107, 5, 20)).toEqual({ epoch: 5, progress: share(0.1) })
    expect(subnetEpochOf(903, 3, 300)).toEqual({ epoch: 3, progress: 0n })
  })
})
