import { blake2b } from '@noble/hashes/blake2.js'
import { hexToBytes } from '@noble/hashes/utils.js'
import { storagePrefix } from './twox.ts'

/** Genesis entries, by key. */
export type GenesisEntries = readonly (readonly [key: Uint8Array, value: Uint8Array])[]

/** A well-known development account; its key is public (`devAccount` in `substrate/dev-accounts.ts` derives it). */
export interface DevAccount {
  readonly name: string
  /** 20 bytes, `0x…` in lower case. */
  readonly address: string
}

/** The accounts that Ethereum-style Substrate dev chains know by these names; the first one is sudo. */
export const DEV_ACCOUNTS: readonly DevAccount[] = [
  {
    name: 'Alith',
    address: '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac',
  },
  {
    name: 'Baltathar',
    address: '0x3cd0a705a2dc65e5b1e1205896baa2be8a07c6e0',
  },
  {
    name: 'Charleth',
    address: '0x798d4ba9baf0064ec19eb4f0a1a45785ae9d6dfc',
  },
  {
    name: 'Dorothy',
    address: '0x773539d4ac0e786233d90a233654ccee26a613d9',
  },
  {
    name: 'Ethan',
    address: '0xff64d3f6efe2317ee2807d223a0bdc4c0c49dfdb',
  },
  {
    name: 'Faith',
    address: '0xc0f0f4ab324c46e55d02d0033343b4be8a55532d',
  },
  {
    name: 'Goliath',
    address: '0x7bf369283338e12c90514468aa3868a551ab2929',
  },
  {
    name: 'Heath',
    address: '0x931f3600a299fd9b24cefb3bff79388d19804bea',
  },
]

/** Units that a dev account starts with: 10^6 tokens of 18 decimals. */
export const DEV_BALANCE = 10n ** 24n
const SLOT_MS = 6000
/** Slot of the genesis, in November 2023: fixed, so that the same spec always gives the same genesis hash. */
const GENESIS_SLOT = 283_333_333

/**
 * The Network pallet's parameters for one machine: short periods, no least delegate stake. The same as the native pallet's
 * local ones, so that one script runs on both. Bytes of each value.
 */
const LOCAL_PARAMETERS: readonly (readonly [name: string, value: bigint, bytes: 4 | 16])[] = [
  ['MinSubnetRegistrationEpochs', 1n, 4],
  ['OverwatchEpochLengthMultiplier', 1n, 4],
  ['OverwatchMinDiversificationRatio', 0n, 16],
  ['OverwatchMinRepScore', 0n, 16],
  ['OverwatchMinAvgAttestationRatio', 0n, 16],
  ['OverwatchMinAge', 0n, 4],
  ['DelegateStakeCooldownEpochs', 1n, 4],
  ['NodeDelegateStakeCooldownEpochs', 1n, 4],
  ['StakeCooldownEpochs', 1n, 4],
  ['MinActiveNodeStakeEpochs', 1n, 4],
  ['SubnetDelegateStakeRewardsUpdatePeriod', 0n, 4],
  ['NodeRewardRateUpdatePeriod', 0n, 4],
  ['MinSubnetDelegateStakeFactor', 0n, 16],
  ['MaxMinDelegateStakeMultiplier', 10n ** 18n, 16],
  ['SubnetPauseCooldownEpochs', 0n, 4],
]

/**
 * A genesis of an Ethereum-style chain with Aura, fit for development: its clock has started (a genesis at time 0 makes
 * the first block panic), the dev accounts are rich, Alith is sudo, and the Network pallet's periods are short.
 */
export function patchEthereumGenesis(genesis: GenesisEntries): GenesisEntries {
  const patched = new Map(genesis.map(([key, value]) => [text(key), [key, value] as const]))
  const put = (key: Uint8Array, value: Uint8Array) => patched.set(text(key), [key, value])
  put(storagePrefix('Timestamp', 'Now'), littleEndian(BigInt(GENESIS_SLOT * SLOT_MS), 8))
  put(storagePrefix('Aura', 'CurrentSlot'), littleEndian(BigInt(GENESIS_SLOT), 8))
  put(storagePrefix('Sudo', 'Key'), accountBytes(DEV_ACCOUNTS[0] as DevAccount))
  for (const [name, value, bytes] of LOCAL_PARAMETERS) {
    put(storagePrefix('Network', name), littleEndian(value, bytes))
  }
  let minted = 0n
  for (const account of DEV_ACCOUNTS) {
    const key = accountKey(accountBytes(account))
    const before = patched.get(text(key))?.[1]
    minted += DEV_BALANCE - (before === undefined ? 0n : readU128(before, 16))
    put(key, accountInfo(DEV_BALANCE))
  }
  const issuanceKey = storagePrefix('Balances', 'TotalIssuance')
  const issuance = patched.get(text(issuanceKey))?.[1]
  put(issuanceKey, littleEndian((issuance === undefined ? 0n : readU128(issuance, 0)) + minted, 16))
  return [...patched.values()]
}

/** Whether a genesis is of a chain with 20-byte accounts: its properties say so. */
export function isEthereumStyle(properties: Readonly<Record<string, unknown>>): boolean {
  return properties['isEthereum'] === true
}

/** `AccountInfo` with a free balance: nonce, consumers, providers = 1, sufficients, free, reserved, frozen, flags. */
function accountInfo(free: bigint): Uint8Array {
  const bytes = new Uint8Array(80)
  bytes[8] = 1
  bytes.set(littleEndian(free, 16), 16)
  bytes[79] = 128
  return bytes
}

function accountKey(account: Uint8Array): Uint8Array {
  const prefix = storagePrefix('System', 'Account')
  const hash = blake2b(account, { dkLen: 16 })
  return Uint8Array.of(...prefix, ...hash, ...account)
}

function accountBytes({ address }: DevAccount): Uint8Array {
  return hexToBytes(address.slice(2))
}

function littleEndian(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at++) bytes[at] = Number((value >> BigInt(8 * at)) & 0xffn)
  return bytes
}

function readU128(bytes: Uint8Array, offset: number): bigint {
  let value = 0n
  for (let at = 15; at >= 0; at--) value = (value << 8n) | BigInt(bytes[offset + at] ?? 0)
  return value
}

function text(key: Uint8Array): string {
  return String.fromCharCode(...key)
}
