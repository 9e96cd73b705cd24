import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import { account, TestChain } from './chain.ts'
import { ERROR_CASES } from './error-cases.ts'
import { activeSubnet, elected, endow, nextStep } from './subnet.ts'

it('every error of the life-cycle calls is reached, and nothing stays of the call', () => {
  const subnet = activeSubnet(4)
  nextStep(subnet)
  const { chain } = subnet
  expect(elected(subnet) ?? 0).toBeGreaterThan(0)
  const wrong: string[] = []
  for (const [error, who, call, args, before] of ERROR_CASES) {
    chain.state.storage.startTransaction()
    before?.(subnet)
    const supply = chain.supply()
    const got = chain.error(who(subnet), call, args(subnet))
    const expected = error === 'Other' ? /^(Other|\w+ has \d+ bytes)/ : new RegExp(`^${error}$`)
    if (!expected.test(got)) wrong.push(`${call}: ${got === '' ? 'no error' : got} instead of ${error}`)
    if (chain.supply() !== supply) wrong.push(`${call}: ${error} moved money`)
    chain.state.storage.rollbackTransaction()
  }
  expect(wrong).toEqual([])
})

it('errors that the code can raise are the listed ones, and the life cycle reaches all but the other parts', () => {
  const folder = join(import.meta.dirname, '../../../../../src/ledger/devnet/native/network')
  const source = readdirSync(folder)
    .filter((file) => !/-list\.ts$|parameter|collective|overwatch/.test(file))
    .map((file) => readFileSync(join(folder, file), 'utf8'))
    .join('\n')
  const listed = new Set(networkPallet({ epochBlocks: 20 }).errors)
  const raised = new Set(
    [...source.matchAll(/'([A-Z]\w+)'/g)].map(([, name]) => name ?? '').filter((n) => listed.has(n)),
  )
  const reached = new Set(ERROR_CASES.map(([error]) => error))
  // Storage items that have an error's name.
  const items = new Set(['MaxSubnetNodes'])
  const missing = [...raised].filter((name) => !reached.has(name) && !items.has(name))
  expect(missing).toEqual([])
})

it('a call of an unknown account or with no money leaves the chain as it was', () => {
  const chain = new TestChain({ endowed: endow(0) })
  expect(chain.error(account(77), 'claim_unbondings')).toBe('NoStakeUnbondingsOrCooldownNotMet')
})
