import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { ChoraleError } from '../../../src/errors.ts'
import { decryptKey, type KeyRole } from '../../../src/ledger/keys/key-file.ts'
import type { Ledger, LedgerSigner } from '../../../src/ledger/ledger.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import { keyFromSecret, signerOf } from '../../../src/ledger/substrate/key-derivation.ts'
import { readKey } from '../../keystore-files.ts'
import { localSwarmPath, readLocalSwarm } from '../../local-swarm-file.ts'
import { stderrLogger } from '../../platform.ts'
import { readPassword } from '../key/password.ts'

/** Flags of every verb that reads the ledger. */
export interface LedgerFlags {
  url?: string
  genesis?: string
  json?: boolean
  verbose?: boolean
}

/** Flags of every verb that signs. */
export interface SigningFlags extends LedgerFlags {
  key?: string
  dev?: string
  passwordFile?: string
  yes?: boolean
  finalized?: boolean
}

export const URL_VARIABLE = 'CHORALE_LEDGER_URL'

/** Adds what every verb that reads the ledger takes. */
export function withLedgerOptions(command: Command): Command {
  return command
    .option(
      '--url <url>',
      `ws:// or wss:// URL of a node (default: ${URL_VARIABLE}, else the swarm on this machine)`,
    )
    .option('--genesis <hash>', 'refuse a node on another chain')
    .option('--json', 'print one JSON document')
    .option('-v, --verbose', 'log what happens')
}

/** Adds what every verb that signs takes. */
export function withSigningOptions(command: Command): Command {
  return withLedgerOptions(command)
    .option('--key <name>', 'key that signs (chorale key list)')
    .option('--dev <name>', 'sign as a development account: alith, baltathar, …; alice, bob, …')
    .option(
      '--password-file <file>',
      "file whose first line is the key's password (or set CHORALE_KEY_PASSWORD)",
    )
    .option('--finalized', 'wait until the block is final')
    .option('-y, --yes', 'do not ask before it costs money')
}

/** The node's URL by flags, environment or the swarm on this machine. @throws `bad_config` when none tells. */
export async function ledgerUrl(flags: LedgerFlags): Promise<string> {
  const set = process.env[URL_VARIABLE]
  const url = flags.url ?? (set === undefined || set === '' ? await localLedgerUrl() : set)
  if (url !== undefined) return url
  throw new ChoraleError(
    'bad_config',
    `no ledger to ask: give --url ws://…, set ${URL_VARIABLE}, or start a swarm with npm start`,
    { field: 'url' },
  )
}

/** Connects to the node at `ledgerUrl`. @throws as `connectLedger`. */
export async function openLedger(flags: LedgerFlags): Promise<Ledger> {
  return connectLedger(await ledgerUrl(flags), {
    log: stderrLogger(flags.verbose === true ? 'debug' : 'error'),
    ...(flags.genesis !== undefined && { genesisHash: flags.genesis }),
  })
}

/** The running local swarm's node, when its file tells one. */
async function localLedgerUrl(): Promise<string | undefined> {
  if ((await readLocalSwarm()) === undefined) return undefined
  const value = JSON.parse(await readFile(localSwarmPath(), 'utf8')) as { readonly ledger?: unknown }
  const { ledger } = value
  if (typeof ledger === 'string') return ledger
  const url = typeof ledger === 'object' && ledger !== null && 'url' in ledger ? ledger.url : undefined
  return typeof url === 'string' ? url : undefined
}

/** Who signs, and in which role its key is kept. @throws `bad_config` when no key is named, `refused` for a wrong password. */
export async function openSigner(
  flags: Pick<SigningFlags, 'key' | 'dev' | 'passwordFile'>,
): Promise<{ readonly signer: LedgerSigner; readonly role: KeyRole | 'dev' }> {
  if (flags.dev !== undefined) return { signer: signerOf(devAccount(flags.dev)), role: 'dev' }
  if (flags.key === undefined) {
    throw new ChoraleError(
      'bad_config',
      'who signs? give --key NAME (chorale key list), or --dev alith on a development chain',
      { field: 'key' },
    )
  }
  const { file, name } = await readKey(flags.key)
  const password = await readPassword(flags, `Password of ${file.role} ${name}: `)
  const secret = await decryptKey(file, password)
  return { signer: signerOf(keyFromSecret(secret, file.kind)), role: file.role }
}

/** The account a name stands for: an address as it is, a key's, or a development account's (`dev:alith`). */
export async function accountOf(text: string): Promise<string> {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase()
  if (/^[1-9A-HJ-NP-Za-km-z]{46,50}$/.test(text)) return text
  if (text.startsWith('dev:')) return devAccount(text.slice(4)).address
  return (await readKey(text)).file.address
}
