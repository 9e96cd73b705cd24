import { describe, expect, it } from 'vitest'
import { epochSeed, readEpochView } from '../../src/attest/ledger-view.ts'
import type { Consensus } from '../../src/ledger/ledger.ts'
import { DEFAULT_SUBNET_PARAMETERS } from '../../src/ledger/subnet-parameters.ts'
import { nodeOf, ScriptedLedger } from './scripted-ledger.ts'

const proposal = (attestors: readonly number[], scored: readonly number[]): Consensus => ({
  proposer: 1,
  block: 90,
  scores: scored.map((nodeId) => ({ nodeId, score: 1n })),
  validators: [1, 2, 3],
  attestors,
  args: undefined,
})

function open() {
  const ledger = new ScriptedLedger(84)
  ledger.nodeList = [
    nodeOf(1, 'a', { clientPeerId: 'a client' }),
    nodeOf(2, 'b', { class: 'Included' }),
    nodeOf(3, 'c', { class: 'Idle' }),
    nodeOf(4, 'd', { startEpoch: 4 }),
    nodeOf(5, 'e', { startEpoch: 6 }),
    nodeOf(6, 'f', { queued: true, class: 'Registered' }),
  ]
  while (ledger.block.number < 105) ledger.next()
  return ledger
}
const request = (ledger: ScriptedLedger) => ({ subnetId: 1, epoch: 5, slot: 5, blockHash: ledger.block.hash })

describe('readEpochView', () => {
  it('takes nodes, owners, times and parameters from one block', async () => {
    const ledger = open()
    ledger.misc = '{"accountants":7}'
    ledger.accountants = [1, 4]
    const view = await readEpochView(ledger, request(ledger))
    expect(view).toMatchObject({ epoch: 4, block: 105, from: 85 * 6_000, until: 105 * 6_000 })
    expect(view.nodes.map(({ nodeId }) => nodeId)).toEqual([1, 2, 4])
    expect(view.validators).toEqual([1, 4])
    expect(view.owners.get('a client')).toBe('0x1')
    expect(view.owners.get('f')).toBe('0x6')
    expect([...view.accountants]).toEqual([1, 4])
    expect([...view.members.joined]).toEqual([4])
    expect(view.parameters.accountants).toBe(7)
  })

  it('knows who was scored by the last proposal that was accepted, of the last four', async () => {
    const ledger = open()
    const previous = async () => [...(await readEpochView(ledger, request(ledger))).members.previous]
    ledger.write({ consensus: new Map([[4, proposal([1, 2], [1, 2])]]) })
    expect(await previous()).toEqual([1, 2])
    ledger.write({
      consensus: new Map([
        [4, proposal([1], [9])],
        [3, proposal([1, 2, 3], [1, 4])],
      ]),
    })
    expect(await previous()).toEqual([1, 4])
    // None: everybody who is there.
    ledger.write({
      consensus: new Map([
        [4, proposal([1], [9])],
        [0, proposal([1, 2, 3], [1])],
      ]),
    })
    expect(await previous()).toEqual([1, 2, 4])
  })

  it('falls back to the defaults when the parameters are unreadable', async () => {
    const ledger = open()
    ledger.misc = '{"accountants":"many"}'
    expect((await readEpochView(ledger, request(ledger))).parameters).toEqual(DEFAULT_SUBNET_PARAMETERS)
  })

  it('takes the beginning of the epoch from the view before, when it is of this branch', async () => {
    const ledger = open()
    const view = await readEpochView(ledger, request(ledger))
    const hash = (await ledger.storage('System', 'BlockHash', [85])) as string
    const same = { ...view, blockHash: hash, until: 77 }
    expect((await readEpochView(ledger, { ...request(ledger), before: same })).from).toBe(77)
    const other = { ...same, blockHash: '0x99' }
    expect((await readEpochView(ledger, { ...request(ledger), before: other })).from).toBe(85 * 6_000)
  })

  it('counts by the nominal block time when the old block is forgotten', async () => {
    const ledger = open()
    const storage = ledger.storage.bind(ledger)
    ledger.storage = async (pallet, item, keys, at) => {
      if (pallet === 'Timestamp' && at !== ledger.block.hash) throw new Error('state already discarded')
      return await storage(pallet, item, keys, at)
    }
    expect((await readEpochView(ledger, request(ledger))).from).toBe((105 - 20) * 6_000)
  })
})

describe('epochSeed', () => {
  it('is the block hash, and nothing when that is forgotten', async () => {
    const ledger = open()
    expect(await epochSeed(ledger, 100, ledger.block.hash)).toHaveLength(32)
    ledger.storage = async () => await Promise.resolve(`0x${'00'.repeat(32)}`)
    expect(await epochSeed(ledger, 1, ledger.block.hash)).toBe(undefined)
  })
})
