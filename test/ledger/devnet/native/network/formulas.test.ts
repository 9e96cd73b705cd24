import { describe, expect, it } from 'vitest'
import { nextBurnRate } from '../../../../../src/ledger/devnet/native/network/burn-rate.ts'
import { toBalance, toShares } from '../../../../../src/ledger/devnet/native/network/delegate-pool.ts'
import { epochsToRemoval } from '../../../../../src/ledger/devnet/native/network/emergency-set.ts'
import { minDelegateStake, splitReward } from '../../../../../src/ledger/devnet/native/network/emission.ts'
import { attestorProgress, subnetClock } from '../../../../../src/ledger/devnet/native/network/epochs.ts'
import {
  fromFloat,
  ONE,
  percentDiv,
  percentMul,
  toFloat,
  truncate,
  U128_MAX,
} from '../../../../../src/ledger/devnet/native/network/fixed-point.ts'
import {
  decreaseReputation,
  increaseReputation,
  increaseReputationByPower,
} from '../../../../../src/ledger/devnet/native/network/reputation.ts'
import {
  concaveDownDecreasing,
  FOUNDATION_SHARE,
  sigmoidDecreasing,
  yearlyEmission,
} from '../../../../../src/ledger/devnet/native/network/reward-curves.ts'
import { slashAmount } from '../../../../../src/ledger/devnet/native/network/slashing.ts'
import { registrationCost } from '../../../../../src/ledger/devnet/native/network/subnets.ts'

const ratio = (value: number): bigint => BigInt(Math.round(value * 1e6)) * 10n ** 12n

describe('worked values of the fact base, appendix C', () => {
  it.each([
    [0, 0.999955],
    [0.15, 0.999089],
    [0.25, 0.993307],
    [0.4, 0.880797],
    [0.5, 0.5],
    [0.6, 0.119203],
    [0.75, 0.006693],
    [1, 0.000045],
  ])('proposer timing factor v(%f)', (x, expected) => {
    expect(sigmoidDecreasing(x, 0.5, 20)).toBeCloseTo(expected, 6)
  })

  it.each([
    [0, 1],
    [0.5, 0.999346],
    [0.75, 0.96227],
    [0.9, 0.766385],
    [1, 0.33],
  ])('attestor timing factor a(%f)', (p, expected) => {
    expect(concaveDownDecreasing(p, 0.33, 1, 10)).toBeCloseTo(expected, 6)
  })

  it('slash: by stake and shortfall, capped at one token, nothing at the least ratio', () => {
    const slash = (stake: bigint, at: number): bigint =>
      slashAmount(stake * ONE, ratio(at), ratio(0.66), ratio(0.03125), ONE)
    expect(slash(20n, 0.33)).toBe(ratio(0.3125))
    expect(slash(100n, 0.33)).toBe(ONE)
    expect(slash(100n, 0.66)).toBe(0n)
    expect(slash(100n, 0.99)).toBe(0n)
    expect(slashAmount(5n, 0n, ratio(0.66), 10n * ONE, ONE)).toBe(5n)
  })

  it('reputation: falls by its part, rises towards one, by power in other versions of the pallet', () => {
    expect(toFloat(increaseReputationByPower(ratio(0.9), ratio(0.1)))).toBeCloseTo(0.989057, 6)
    expect(toFloat(increaseReputationByPower(ratio(0.5), ratio(0.1)))).toBeCloseTo(0.546652, 6)
    expect(toFloat(increaseReputationByPower(ratio(0.8), ratio(0.125 * 0.9)))).toBeCloseTo(0.887769, 6)
    expect(decreaseReputation(ONE, ratio(0.1))).toBe(ratio(0.9))
    expect(increaseReputation(ratio(0.9), ratio(0.1))).toBe(ratio(0.91))
    expect(increaseReputation(ratio(0.9), 5n * ONE)).toBe(ONE)
  })

  it('epochs until an absent node is below the least reputation', () => {
    expect(epochsToRemoval(ratio(0.1), ratio(0.1))).toBe(23)
  })

  it.each([
    [0, 99_267.2],
    [0.25, 96_298.8],
    [0.5, 87_500],
    [0.75, 78_701.2],
    [1, 75_732.8],
  ])('yearly emission at utilisation %f', (u, tokens) => {
    expect(yearlyEmission(u, 0.5, 7) / 1e18).toBeCloseTo(tokens, 1)
    expect(1 - FOUNDATION_SHARE).toBe(0.8)
  })

  it('registration cost halfway through the decay', () => {
    const cost = registrationCost({
      last: ONE,
      min: ratio(0.1),
      blocks: 219_145,
      decayBlocks: 438_290,
      alpha: ratio(0.5),
    })
    expect(toFloat(cost)).toBeCloseTo(0.736396, 6)
    const at = (blocks: number): bigint =>
      registrationCost({ last: ONE, min: ratio(0.1), blocks, decayBlocks: 438_290, alpha: ratio(0.5) })
    expect(at(0)).toBe(ONE)
    expect(at(438_290)).toBe(ratio(0.1))
    expect(registrationCost({ last: 5n, min: 7n, blocks: 1, decayBlocks: 10, alpha: ONE })).toBe(7n)
  })

  it('least delegate stake at 3 and 256 electable nodes', () => {
    const limits = { minNodes: 3, maxNodes: 256, maxMultiplier: 4n * ONE }
    const least = (nodes: number): bigint => minDelegateStake(1_000_000n * ONE, ratio(0.001), nodes, limits)
    expect(least(3)).toBe(1000n * ONE)
    expect(least(256)).toBe(4000n * ONE)
    expect(least(129)).toBeGreaterThan(2400n * ONE)
    expect(least(129)).toBeLessThan(2600n * ONE)
  })

  it('delegate shares of a deposit', () => {
    expect(Number(toShares(110n * ONE, 1000n * ONE, 1100n * ONE)) / 1e18).toBeCloseTo(100, 1)
    expect((110n * 1_000_000n * 1010n) / 1101n).toBe(100_908_265n)
    expect(toShares(110_000_000n, 1000n, 1100n)).toBe(100_908_265n)
    expect(toShares(7n, 0n, 0n)).toBe(7n)
    expect(toBalance(7n, 0n, 0n)).toBe(7n)
  })

  it('subnet payout: owner, delegates, nodes', () => {
    const reward = splitReward(100n * ONE, ratio(0.25), ratio(0.23), ratio(0.1))
    expect(reward).toEqual({
      overall: 25n * ONE,
      owner: ratio(5.75),
      delegates: ratio(1.925),
      nodes: ratio(17.325),
    })
    expect(percentMul(percentDiv(3n, 4n), reward.nodes)).toBe(12_993_750_000_000_000_000n)
    expect(percentMul(percentDiv(1n, 4n), reward.nodes)).toBe(4_331_250_000_000_000_000n)
  })

  it('subnet epochs and their progress', () => {
    expect(subnetClock(107, 5, 20)).toEqual({ epoch: 5, progress: ratio(0.1) })
    expect(subnetClock(903, 3, 300)).toEqual({ epoch: 3, progress: 0n })
    expect(subnetClock(4, 5, 20)).toBeUndefined()
    expect(subnetClock(4, undefined, 20)).toBeUndefined()
  })
})

describe('fixed point and curves', () => {
  it('percentMul and percentDiv truncate, saturate, and are 0 for 0', () => {
    expect(percentMul(3n, ONE / 2n)).toBe(1n)
    expect(percentMul(U128_MAX, 2n * ONE)).toBe(U128_MAX)
    expect(percentMul(0n, ONE)).toBe(0n)
    expect(percentDiv(1n, 3n)).toBe(333_333_333_333_333_333n)
    expect(percentDiv(1n, 0n)).toBe(0n)
    expect(percentDiv(U128_MAX, 1n)).toBe(U128_MAX)
  })

  it("truncate is Rust's `as u128`", () => {
    expect(truncate(Number.NaN)).toBe(0n)
    expect(truncate(-1)).toBe(0n)
    expect(truncate(1.9)).toBe(1n)
    expect(truncate(Number.POSITIVE_INFINITY)).toBe(U128_MAX)
    expect(fromFloat(0.5)).toBe(ONE / 2n)
  })

  it('attestorProgress: the part of the remaining epoch that passed, at most all', () => {
    expect(attestorProgress(107, 107, 5, 20)).toBe(0n)
    expect(attestorProgress(116, 107, 5, 20)).toBe(ratio(0.5))
    expect(attestorProgress(200, 107, 5, 20)).toBe(ONE)
  })

  it('nextBurnRate: towards the least without registrations, the most from the target on', () => {
    const rates = { target: 4, previous: 2n * ONE, alpha: ONE / 2n, min: ONE, max: 5n * ONE }
    expect(nextBurnRate({ ...rates, registrations: 0 })).toBe(ratio(1.5))
    expect(nextBurnRate({ ...rates, registrations: 2 })).toBe(ratio(2.5))
    expect(nextBurnRate({ ...rates, registrations: 4 })).toBe(ratio(3.5))
    expect(nextBurnRate({ ...rates, registrations: 9, alpha: ONE })).toBe(5n * ONE)
  })

  it('increaseReputation, decreaseReputation, shares: within their range for 10^5 random values', () => {
    let seed = 1
    const random = (): bigint => {
      seed = (seed * 48_271) % 2_147_483_647
      return (BigInt(seed) * ONE) / 2_147_483_647n
    }
    for (let i = 0; i < 100_000; i++) {
      const [a, b] = [random(), random()]
      const up = increaseReputation(a, b)
      const down = decreaseReputation(a, b)
      if (up < a || up > ONE || down > a || down < 0n) expect.unreachable(`${a} ${b} → ${up} ${down}`)
      // A deposit never takes out more than was put in.
      const shares = toShares(a, b + 1000n, a + b)
      const back = toBalance(shares, b + 1000n + shares, a + b + a)
      if (back > a) expect.unreachable(`${a} ${b}: ${back} came back`)
    }
  })
})
