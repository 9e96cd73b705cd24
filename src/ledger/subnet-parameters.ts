import { ChoraleError } from '../errors.ts'
import type { NodeClass } from './ledger.ts'

/** What a peer may be asked to prove before it is served. */
export type StakeAction = 'connect' | 'relay' | 'directory' | 'gossip' | 'serve' | 'infer' | 'sponsor'

/** Subnet parameters as read from the ledger (JSON in the subnet's `misc`); they change without restarting any peer. */
export interface SubnetParameters {
  /** Least class of a node for each action. */
  readonly minClass: Readonly<Record<StakeAction, NodeClass>>
  /** Least stake for each action, in the smallest unit; undefined = the subnet's own minimum. */
  readonly minStake: Readonly<Partial<Record<StakeAction, bigint>>>
  /** How long what was last known counts while the ledger is unreachable; afterwards nobody is admitted. */
  readonly graceMs: number
  /** Decoded tokens between two receipts. */
  readonly receiptTokens: number
  /** Sessions and messages a peer may ask for: `base` for anybody admitted, growing with stake ÷ minimum stake up to `max`. */
  readonly rate: {
    readonly sessionsPerMinute: { readonly base: number; readonly max: number }
    readonly messagesPerSecond: { readonly base: number; readonly max: number }
  }
  /** Windows inside a subnet epoch, in parts per thousand of its length. */
  readonly epoch: {
    readonly proposeFrom: number
    readonly proposeUntil: number
    readonly attestUntil: number
    /** How often a validator that disagrees looks again. */
    readonly attestTries: number
  }
  /** Weights of the score's parts, in parts per thousand. */
  readonly score: {
    readonly blocks: number
    readonly work: number
    readonly uptime: number
    readonly audits: number
  }
  /** A policy program that replaces the score's formula: SHA-256 of its wasm, its gas and memory limits. */
  readonly policy?: { readonly sha256: string; readonly gas: number; readonly pages: number }
  /** Accountants chosen each epoch. */
  readonly accountants: number
}

/** What counts where the subnet says nothing. */
export const DEFAULT_SUBNET_PARAMETERS: SubnetParameters = {
  minClass: {
    connect: 'Registered',
    relay: 'Registered',
    directory: 'Idle',
    gossip: 'Idle',
    serve: 'Idle',
    infer: 'Registered',
    sponsor: 'Idle',
  },
  minStake: {},
  graceMs: 120_000,
  receiptTokens: 32,
  rate: {
    sessionsPerMinute: { base: 60, max: 600 },
    messagesPerSecond: { base: 500, max: 5_000 },
  },
  epoch: { proposeFrom: 0, proposeUntil: 500, attestUntil: 950, attestTries: 3 },
  score: { blocks: 500, work: 300, uptime: 100, audits: 100 },
  accountants: 2,
}

/** A subnet's `misc` is free text that anybody reads on every change: longer texts are not Chorale's. */
const MAX_TEXT_LENGTH = 16_384
/** Nobody may be admitted for longer than a day on what was last known. */
const MAX_GRACE_MS = 86_400_000
/** Receipts rarer than this would leave long answers without evidence. */
const MAX_RECEIPT_TOKENS = 4_096
/** Keeps token buckets far inside what a server could ever answer. */
const MAX_RATE = 1_000_000
/** A validator that looks again this often would do nothing else. */
const MAX_ATTEST_TRIES = 20
/** Every accountant asks servers for inputs; the pallet chooses from at most 256 nodes. */
const MAX_ACCOUNTANTS = 64
/** A policy runs on every validator in every epoch: two to four seconds in which a server answers nobody. */
const MAX_POLICY_GAS = 20_000_000
/** 64 pages of 64 KiB: 4 MiB of memory. */
const MAX_POLICY_PAGES = 64
/** u128, as amounts are stored. */
const MAX_AMOUNT = (1n << 128n) - 1n

const CLASSES: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']
const ACTIONS = Object.keys(DEFAULT_SUBNET_PARAMETERS.minClass) as StakeAction[]

type JsonMap = Readonly<Record<string, unknown>>

/**
 * Reads a subnet's `misc`. What it does not say is as in `DEFAULT_SUBNET_PARAMETERS`; unknown fields are ignored, and
 * so is a text that is no JSON object (`misc` is the owner's free text).
 * @throws `ledger` naming the field that is out of bounds; callers keep the parameters they had.
 */
export function parseSubnetParameters(misc: string): SubnetParameters {
  if (misc.length > MAX_TEXT_LENGTH) {
    throw bad('misc', `at most ${MAX_TEXT_LENGTH} characters`, `${misc.length} characters`)
  }
  if (!misc.trimStart().startsWith('{')) return DEFAULT_SUBNET_PARAMETERS
  let json: unknown
  try {
    json = JSON.parse(misc)
  } catch {
    throw bad('misc', 'JSON where it begins with "{"', misc.slice(0, 40))
  }
  const map = json as JsonMap
  const base = DEFAULT_SUBNET_PARAMETERS
  const rate = mapField(map, 'rate')
  const epoch = mapField(map, 'epoch')
  const score = mapField(map, 'score')
  const policy = readPolicy(map)
  const parameters: SubnetParameters = {
    minClass: readClasses(map),
    minStake: readStakes(map),
    graceMs: integer(map, 'graceMs', '', 0, MAX_GRACE_MS, base.graceMs),
    receiptTokens: integer(map, 'receiptTokens', '', 1, MAX_RECEIPT_TOKENS, base.receiptTokens),
    rate: {
      sessionsPerMinute: readRate(rate, 'sessionsPerMinute', base.rate.sessionsPerMinute),
      messagesPerSecond: readRate(rate, 'messagesPerSecond', base.rate.messagesPerSecond),
    },
    epoch: {
      proposeFrom: integer(epoch, 'proposeFrom', 'epoch.', 0, 1000, base.epoch.proposeFrom),
      proposeUntil: integer(epoch, 'proposeUntil', 'epoch.', 0, 1000, base.epoch.proposeUntil),
      attestUntil: integer(epoch, 'attestUntil', 'epoch.', 0, 1000, base.epoch.attestUntil),
      attestTries: integer(epoch, 'attestTries', 'epoch.', 1, MAX_ATTEST_TRIES, base.epoch.attestTries),
    },
    score: {
      blocks: integer(score, 'blocks', 'score.', 0, 1000, base.score.blocks),
      work: integer(score, 'work', 'score.', 0, 1000, base.score.work),
      uptime: integer(score, 'uptime', 'score.', 0, 1000, base.score.uptime),
      audits: integer(score, 'audits', 'score.', 0, 1000, base.score.audits),
    },
    ...(policy !== undefined && { policy }),
    accountants: integer(map, 'accountants', '', 0, MAX_ACCOUNTANTS, base.accountants),
  }
  const { proposeFrom, proposeUntil, attestUntil } = parameters.epoch
  if (!(proposeFrom < proposeUntil && proposeUntil <= attestUntil)) {
    const found = `${proposeFrom}, ${proposeUntil}, ${attestUntil}`
    throw bad('epoch', 'windows with proposeFrom < proposeUntil ≤ attestUntil', found)
  }
  const { blocks, work, uptime, audits } = parameters.score
  if (blocks + work + uptime + audits === 0) throw bad('score', 'weights that are not all 0', 0)
  return parameters
}

/** The shortest `misc` that `parseSubnetParameters` reads as `parameters`: what differs from the defaults. */
export function encodeSubnetParameters(parameters: SubnetParameters): string {
  return JSON.stringify(difference(parameters, DEFAULT_SUBNET_PARAMETERS) ?? {})
}

/** Fields of `value` that are not as in `base`, amounts as decimal text; undefined when all are. */
function difference(value: unknown, base: unknown): unknown {
  if (typeof value === 'bigint') return value === base ? undefined : value.toString()
  if (typeof value !== 'object' || value === null) return value === base ? undefined : value
  const fields = Object.entries(value).flatMap(([name, field]): [string, unknown][] => {
    const changed = difference(field, (base as JsonMap | undefined)?.[name])
    return changed === undefined ? [] : [[name, changed]]
  })
  return fields.length === 0 ? undefined : Object.fromEntries(fields)
}

function readClasses(map: JsonMap): SubnetParameters['minClass'] {
  const classes = mapField(map, 'minClass')
  return Object.fromEntries(
    ACTIONS.map((action) => {
      const value = own(classes, action) ?? DEFAULT_SUBNET_PARAMETERS.minClass[action]
      const found = CLASSES.find((name) => name === value)
      if (found === undefined) throw bad(`minClass.${action}`, `one of ${CLASSES.join(', ')}`, value)
      return [action, found]
    }),
  ) as Record<StakeAction, NodeClass>
}

function readStakes(map: JsonMap): SubnetParameters['minStake'] {
  const stakes = mapField(map, 'minStake')
  const read: Partial<Record<StakeAction, bigint>> = {}
  for (const action of ACTIONS) {
    const value = own(stakes, action)
    if (value === undefined) continue
    const amount =
      (typeof value === 'string' && /^\d{1,39}$/.test(value)) || Number.isSafeInteger(value)
        ? BigInt(value as string | number)
        : -1n
    if (amount < 0n || amount > MAX_AMOUNT) {
      throw bad(`minStake.${action}`, 'an amount in the smallest unit, as decimal text', value)
    }
    read[action] = amount
  }
  return read
}

function readRate(
  rate: JsonMap,
  name: string,
  fallback: { readonly base: number; readonly max: number },
): { base: number; max: number } {
  const limits = mapField(rate, name, 'rate.')
  const base = integer(limits, 'base', `rate.${name}.`, 1, MAX_RATE, fallback.base)
  const max = integer(limits, 'max', `rate.${name}.`, 1, MAX_RATE, Math.max(fallback.max, base))
  if (base > max) throw bad(`rate.${name}.max`, `at least its base ${base}`, max)
  return { base, max }
}

function readPolicy(map: JsonMap): SubnetParameters['policy'] {
  if (own(map, 'policy') === undefined) return undefined
  const policy = mapField(map, 'policy')
  const sha256 = own(policy, 'sha256')
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw bad('policy.sha256', '64 lower-case hex digits', sha256)
  }
  return {
    sha256,
    gas: integer(policy, 'gas', 'policy.', 1, MAX_POLICY_GAS),
    pages: integer(policy, 'pages', 'policy.', 1, MAX_POLICY_PAGES),
  }
}

/** Only what the text itself says: `__proto__` and the like are no fields. */
function own(map: JsonMap, name: string): unknown {
  return Object.hasOwn(map, name) ? map[name] : undefined
}

function mapField(map: JsonMap, name: string, prefix = ''): JsonMap {
  const value = own(map, name) ?? {}
  if (typeof value === 'object' && !Array.isArray(value)) return value as JsonMap
  throw bad(`${prefix}${name}`, 'an object', value)
}

function integer(
  map: JsonMap,
  name: string,
  prefix: string,
  min: number,
  max: number,
  fallback?: number,
): number {
  const value = own(map, name) ?? fallback
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw bad(`${prefix}${name}`, `a whole number from ${min} to ${max}`, value)
}

function bad(field: string, wanted: string, value: unknown): ChoraleError {
  const shown = JSON.stringify(value)?.slice(0, 60) ?? 'nothing'
  return new ChoraleError('ledger', `subnet parameter ${field} must be ${wanted}, got ${shown}`, { field })
}
