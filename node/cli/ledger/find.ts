import { ChoraleError } from '../../../src/errors.ts'
import type { Ledger, Subnet, SubnetNode } from '../../../src/ledger/ledger.ts'

/** A subnet by id or name. @throws `bad_config` when none is named and there are several, `not_found`. */
export async function findSubnet(ledger: Ledger, reference: string | undefined): Promise<Subnet> {
  const subnets = await ledger.subnets()
  const [only] = subnets
  if (reference === undefined) {
    if (only !== undefined && subnets.length === 1) return only
    throw new ChoraleError(
      'bad_config',
      subnets.length === 0
        ? 'this chain has no subnets: chorale subnet register makes one'
        : `which subnet? give --subnet: ${names(subnets)}`,
      { field: 'subnet' },
    )
  }
  const found = subnets.find(({ id, name }) => String(id) === reference || name === reference)
  if (found !== undefined) return found
  throw new ChoraleError(
    'not_found',
    subnets.length === 0
      ? 'this chain has no subnets: chorale subnet register makes one'
      : `no subnet ${reference}: there are ${names(subnets)}`,
    { field: 'subnet' },
  )
}

/** A node by id; by default the only one whose coldkey or hotkey is `account`. @throws `bad_config`, `not_found`. */
export function findNode(
  nodes: readonly SubnetNode[],
  reference: string | undefined,
  account: string,
): SubnetNode {
  const mine = nodes.filter(({ coldkey, hotkey }) => coldkey === account || hotkey === account)
  const [only] = mine
  if (reference === undefined && only !== undefined && mine.length === 1) return only
  if (reference === undefined) {
    throw new ChoraleError(
      'bad_config',
      mine.length === 0
        ? `${account} has no node in this subnet: give --node, or register one with chorale node register`
        : `which node? give --node: ${mine.map(({ id }) => id).join(', ')}`,
      { field: 'node' },
    )
  }
  const found = nodes.find(({ id }) => String(id) === reference)
  if (found !== undefined) return found
  const known = nodes.map(({ id }) => id).join(', ')
  throw new ChoraleError('not_found', `no node ${reference} in this subnet: there are ${known || 'none'}`, {
    field: 'node',
  })
}

function names(subnets: readonly Subnet[]): string {
  return subnets.map(({ id, name }) => `${name} (${id})`).join(', ')
}
