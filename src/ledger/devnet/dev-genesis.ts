import { blake2b } from '@noble/hashes/blake2.js'
import { hexToBytes } from '@noble/hashes/utils.js'
import { storagePrefix } from './twox.ts'

/** Genesis entries, by key. */
export type GenesisEntries = readonly (readonly [key: Uint8Array, value: Uint8Array])[]

/** A well-known development account. Its key is public: it holds nothing of worth anywhere. */
export interface DevAccount {
  readonly name: string
  /** 20 bytes, `0x…` in lower case. */
  readonly address: string
  /** secp256k1 secret, `0x…`. */
  readonly secret: string
}

/** The accounts that Ethereum-style Substrate dev chains know by these names. */
export const DEV_ACCOUNTS: readonly DevAccount[] = [
  {
    name: 'Alith',
    address: '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac',
    secret: '0x5fb92d6e98884f76de468fa3f6278f8807c48bebc13595d45af5bdc4da702133',
  },
  {
    name: 'Baltathar',
    address: '0x3cd0a705a2dc65e5b1e1205896baa2be8a07c6e0',
    secret: '0x8075991ce870b93a8870eca0c0f91913d12f47948ca0fd25b49c6fa7cdbeee8b',
  },
  {
    name: 'Charleth',
    address: '0x798d4ba9baf0064ec19eb4f0a1a45785ae9d6dfc',
    secret: '0x0b6e18cafb6ed99687ec547bd28139cafdd2bffe70e6b688025de6b445aa5c5b',
  },
  {
    name: 'Dorothy',
    address: '0x773539d4ac0e786233d90a233654ccee26a613d9',
    secret: '0x39539ab1876910bbf3a223d84a29e28f1cb4e2e456503e7e91ed39b2e7223d68',
  },
  {
    name: 'Ethan',
    address: '0xff64d3f6efe2317ee2807d223a0bdc4c0c49dfdb',
    secret: '0x7dce9bc8babb68fec1409be38c8e1a52650206a7ed90ff956ae8a6d15eeaaef4',
  },
  {
    name: 'Faith',
    address: '0xc0f0f4ab324c46e55d02d0033343b4be8a55532d',
    secret: '0xb9d2ea9a615f3165812e8d44de0d24da9bbd164b65c4f0573e1ce2c8dbd9c8df',
  },
  {
    name: 'Goliath',
    address: '0x7bf369283338e12c90514468aa3868a551ab2929',
    secret: '0x96b8a38e12e1a31dee1eab2fffdf9d9990045f5b37e44d8cc27766ef294acf18',
  },
  {
    name: 'Heath',
    address: '0x931f3600a299fd9b24cefb3bff79388d19804bea',
    secret: '0x0d6dcaaef49272a5411896be8ad16c01c35d6f8c18873387b71fbc734759b0ab',
  },
]

/** Units that a dev account starts with: 10^6 tokens of 18 decimals. */
const DEV_BALANCE = 10n ** 24n
const SLOT_MS = 6000

/**
 * A genesis of an Ethereum-style chain with Aura, fit for development: its clock starts at `now` (a genesis that says 0
 * makes the first block panic), the dev accounts are rich, Alith is sudo, and subnets may be activated soon after they
 * were registered.
 * @param now milliseconds since the epoch
 */
export function patchEthereumGenesis(genesis: GenesisEntries, now: number): GenesisEntries {
  const slot = Math.floor(now / SLOT_MS)
  const patched = new Map(genesis.map(([key, value]) => [text(key), [key, value] as const]))
  const put = (key: Uint8Array, value: Uint8Array) => patched.set(text(key), [key, value])
  put(storagePrefix('Timestamp', 'Now'), littleEndian(BigInt(slot * SLOT_MS), 8))
  put(storagePrefix('Aura', 'CurrentSlot'), littleEndian(BigInt(slot), 8))
  put(storagePrefix('Sudo', 'Key'), accountBytes(DEV_ACCOUNTS[0] as DevAccount))
  put(storagePrefix('Network', 'MinSubnetRegistrationEpochs'), littleEndian(1n, 4))
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
