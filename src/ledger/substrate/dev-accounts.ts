import { ChoraleError } from '../../errors.ts'
import { keyFromMnemonic, type LedgerKey } from './key-derivation.ts'

/** The words everybody knows: accounts of Substrate's and Frontier's development chains. Never money of worth. */
export const DEV_MNEMONIC = 'bottom drive obey lake curtain smoke basket hold race lonely fit walk'

const ETHEREUM_NAMES = [
  'alith',
  'baltathar',
  'charleth',
  'dorothy',
  'ethan',
  'faith',
  'goliath',
  'heath',
] as const
const SUBSTRATE_NAMES = ['alice', 'bob', 'charlie', 'dave', 'eve', 'ferdie'] as const

/**
 * A development account by name: Alith, Baltathar, … (ethereum) or Alice, Bob, … (sr25519), or `#N` for the Nth ethereum one.
 * Its secret is public. @throws `bad_request` for an unknown name.
 */
export function devAccount(name: string): LedgerKey {
  const lower = name.toLowerCase()
  const index = /^#\d{1,4}$/.test(lower)
    ? Number(lower.slice(1))
    : ETHEREUM_NAMES.findIndex((known) => known === lower)
  if (index >= 0) return keyFromMnemonic(DEV_MNEMONIC, 'ethereum', `m/44'/60'/0'/0/${index}`)
  const found = SUBSTRATE_NAMES.find((known) => known === lower)
  if (found !== undefined) {
    return keyFromMnemonic(DEV_MNEMONIC, 'sr25519', `//${found[0]?.toUpperCase() ?? ''}${found.slice(1)}`)
  }
  throw new ChoraleError(
    'bad_request',
    `${name} is no development account: ${[...ETHEREUM_NAMES, ...SUBSTRATE_NAMES].join(', ')} are`,
    { field: 'dev' },
  )
}
