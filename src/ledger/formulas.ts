/**
 * What the Network pallet's rules say events and balances must be, in integers with 1e18 = 100 %; truncating, as the
 * pallet's `percent_mul` and `percent_div` do. Written from the rules alone and sharing no code with the native pallet: what
 * judges a chain must not repeat its mistakes.
 */

/** 100 %. */
export const ONE = 10n ** 18n

/** A share of an amount. */
export function percentMul(amount: bigint, ratio: bigint): bigint {
  return (amount * ratio) / ONE
}

/** What share of `whole` a part is; 0 of nothing. */
export function percentDiv(part: bigint, whole: bigint): bigint {
  return whole === 0n ? 0n : (part * ONE) / whole
}

/** A curve's value as ratio. The pallet computes curves in float64; ratios are compared with `near`. */
export function ratioOf(value: number): bigint {
  return BigInt(Math.trunc(Math.min(1, Math.max(0, value)) * 1e18))
}

/** Whether two ratios or amounts differ by no more than float64's rounding of a curve: 1 part in 1e12, at least 1000 units. */
export function near(a: bigint, b: bigint): boolean {
  const difference = a > b ? a - b : b - a
  const size = a > b ? a : b
  return difference <= size / 10n ** 12n + 1000n
}

/** Proposer's timing factor `v(x)`, x = progress of the subnet epoch at the proposal. */
export function proposerFactor(progress: bigint, midpoint = ONE / 2n, k = 20): bigint {
  const x = Number(progress) / 1e18
  const middle = Number(midpoint) / 1e18
  const grown = Math.exp(k * Math.abs(x - middle))
  return ratioOf(x > middle ? 1 / (1 + grown) : grown / (1 + grown))
}

/** Attestor's timing factor `a(p)`, p = blocks since the proposal ÷ blocks left of the epoch then. */
export function attestorFactor(progress: bigint, least = (33n * ONE) / 100n, exponent = 10): bigint {
  const p = Number(progress) / 1e18
  const low = Number(least) / 1e18
  return ratioOf(low + (1 - low) * (1 - p ** exponent))
}

/** What a proposer that too few attested loses of its stake. */
export function slashAmount(
  stake: bigint,
  ratio: bigint,
  least: bigint,
  base = (3125n * ONE) / 100_000n,
  most = ONE,
): bigint {
  if (ratio >= least) return 0n
  const slash = percentMul(percentMul(stake, base), shortfall(ratio, least))
  return slash > most ? most : slash
}

/** How far an attestation ratio stays below what is needed, as share: `1 - ratio / least`. */
export function shortfall(ratio: bigint, least: bigint): bigint {
  const reached = percentDiv(ratio, least)
  return reached > ONE ? 0n : ONE - reached
}

/** Reputation after a fault. */
export function decreaseReputation(reputation: bigint, factor: bigint): bigint {
  return reputation - percentMul(reputation, factor)
}

/** Reputation after good work: `min(1, r + r^(1+f) · f)`. */
export function increaseReputation(reputation: bigint, factor: bigint): bigint {
  const r = Number(reputation) / 1e18
  const f = Number(factor) / 1e18
  return ratioOf(Math.min(1, r + r ** (1 + f) * f))
}

/** What becomes of a subnet's reward of one epoch. */
export interface SubnetPayout {
  readonly overall: bigint
  readonly owner: bigint
  readonly delegators: bigint
  /** To be shared by the nodes. */
  readonly nodes: bigint
}

/** Divides an epoch's emission: the subnet's weight, the owner's share, the delegators' share of the rest. */
export function subnetPayout(
  emission: bigint,
  weight: bigint,
  ownerShare: bigint,
  delegateShare: bigint,
): SubnetPayout {
  const overall = percentMul(emission, weight)
  const owner = percentMul(overall, ownerShare)
  const rest = overall - owner
  const delegators = percentMul(rest, delegateShare)
  return { overall, owner, delegators, nodes: rest - delegators }
}

/** A node's part of the nodes' pool: by score, times its attestation factor. */
export function nodeReward(score: bigint, allScores: bigint, pool: bigint, factor: bigint): bigint {
  return percentMul(percentMul(percentDiv(score, allScores), pool), factor)
}

/** Emission to subnets in one epoch: 80 % of 75,000 + 25,000 · sigmoid(u) tokens a year, u = use of all node places. */
export function epochEmission(use: number, epochsPerYear: number, unit = ONE): bigint {
  const grown = Math.exp(7 * Math.abs(use - 0.5))
  const sigmoid = use > 0.5 ? 1 / (1 + grown) : grown / (1 + grown)
  const yearly = 75_000 + 25_000 * sigmoid
  return BigInt(Math.trunc(((yearly * 0.8) / epochsPerYear) * Number(unit)))
}

/** What registering a subnet costs `blocks` after the last one did. */
export function registrationCost(
  last: bigint,
  least: bigint,
  blocks: number,
  decay: number,
  alpha = 0.5,
): bigint {
  if (blocks >= decay || last <= least) return least
  return least + percentMul(last - least, ratioOf(((decay - blocks) / decay) ** alpha))
}

/** Least delegate stake of a subnet: a share of the issuance, up to `most` times as much the more electable nodes it has. */
export function minDelegateStake(
  issuance: bigint,
  electable: number,
  factor = ONE / 1000n,
  most = 4n * ONE,
  [from, to]: readonly [number, number] = [3, 256],
): bigint {
  const place = BigInt(Math.min(Math.max(electable, from), to) - from)
  const multiplier = ONE + percentMul(percentDiv(place, BigInt(to - from)), most - ONE)
  return percentMul(percentMul(issuance, factor), multiplier)
}

/** Shares that a deposit buys of a pool; one for one while it is empty. */
export function sharesFor(amount: bigint, allShares: bigint, balance: bigint): bigint {
  return allShares === 0n ? amount : (amount * (allShares + 10n)) / (balance + 1n)
}

/** What shares of a pool are worth. */
export function balanceFor(shares: bigint, allShares: bigint, balance: bigint): bigint {
  return allShares === 0n ? shares : (shares * (balance + 1n)) / (allShares + 10n)
}

/** Where a block lies in a subnet's epochs. */
export function subnetEpochOf(
  block: number,
  slot: number,
  epochBlocks: number,
): { readonly epoch: number; readonly progress: bigint } {
  const since = block - slot
  const epoch = Math.floor(since / epochBlocks)
  return { epoch, progress: percentDiv(BigInt(since - epoch * epochBlocks), BigInt(epochBlocks)) }
}
