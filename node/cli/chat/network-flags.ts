import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import type { Identity } from '../../../src/swarm/identity.ts'
import { exportReceipts, type ReceiptStore } from '../../../src/swarm/receipt-store.ts'
import { readIdentityFile } from '../../identity-file.ts'
import { addSubnetFlags, type SubnetFlags, type SubnetPlace, subnetPlaceOf } from '../../join-subnet.ts'

/** How `chat` and `gateway` come into a network. */
export interface NetworkFlags extends SubnetFlags {
  bootstrap?: readonly string[]
  local?: boolean
  identity?: string
  receipts?: string
}

/** Adds the flags of a client with a ledger; `--bootstrap`, `--local` and `--receipts` each verb describes itself. */
export function addNetworkFlags(command: Command): Command {
  return addSubnetFlags(command, 'use only servers with stake on this ledger').option(
    '--identity <file>',
    "keep this peer's key in this file: who has stake is known by it",
  )
}

/** The subnet and the peer that the flags name. @throws `bad_config`, `bad_file`. */
export async function networkOf(
  flags: NetworkFlags,
): Promise<{ readonly subnet: SubnetPlace | undefined; readonly identity: Identity | undefined }> {
  const subnet = subnetPlaceOf(flags)
  if (flags.bootstrap === undefined) {
    const given = (['ledger', 'identity'] as const).find((name) => flags[name] !== undefined)
    if (given !== undefined) {
      throw new ChoraleError(
        'bad_config',
        `--${given} needs --bootstrap ADDR, which leads into a network; without it a swarm of this machine has its own ledger`,
        { field: given },
      )
    }
  }
  if (flags.local === true && flags.receipts !== undefined) {
    throw new ChoraleError(
      'bad_config',
      '--receipts needs a swarm: with --local nobody else computes, so nobody signs',
      { field: 'receipts' },
    )
  }
  const identity = flags.identity === undefined ? undefined : await readIdentityFile(flags.identity)
  return { subnet, identity }
}

/** Refuses a file that is there already: receipts are evidence. @throws `bad_config`. */
export function assertNewFile(path: string): void {
  if (!existsSync(path)) return
  throw new ChoraleError('bad_config', `${path} is there already: receipts go into a new file`, {
    field: 'receipts',
  })
}

/** Writes what was kept into a file that `chorale verify` reads. @throws `bad_config`. */
export async function writeReceipts(path: string, store: ReceiptStore): Promise<void> {
  try {
    await writeFile(path, await exportReceipts(store), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    throw new ChoraleError('bad_config', `receipts can't be written to ${path}: ${errorMessage(error)}`, {
      cause: error,
      field: 'receipts',
    })
  }
}
