import { expect, it } from 'vitest'
import { TOKEN } from './chain.ts'
import { activeSubnet, coldkey, elected, hotkey, nextStep, proposeAndAttest, subnetEpoch } from './subnet.ts'

it('life cycle: register, activate, elect, propose, attest, rewards by the formulas', () => {
  const subnet = activeSubnet(4)
  const { chain, id } = subnet
  expect(chain.net.get('SubnetsData', id)).toMatchObject({ state: 'Active' })
  let events = nextStep(subnet)
  expect(elected(subnet)).toBeTypeOf('number')
  proposeAndAttest(
    subnet,
    [1, 2, 3, 4],
    [
      [1, 3n],
      [2, 1n],
      [3, 1n],
      [4, 1n],
    ],
  )
  events = nextStep(subnet)
  console.log(
    events,
    subnetEpoch(subnet),
    chain.net.big('AccountSubnetStake', hotkey(1), id),
    coldkey(1),
    TOKEN,
  )
})
