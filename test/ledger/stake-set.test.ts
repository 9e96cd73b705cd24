import { afterEach, describe, expect, it } from 'vitest'
import { createStakeSet, type StakeSet, type StakeSetOptions } from '../../src/ledger/stake-set.ts'
import type { StakeAction } from '../../src/ledger/subnet-parameters.ts'
import { FAKE_SUBNET, type FakeLedger, fakeLedger, fakeNode, networkEvent } from './fake-ledger.ts'

let clock = 0
const sets: StakeSet[] = []
afterEach(() => {
  for (const set of sets.splice(0)) set.close()
  clock = 0
})

async function setOf(ledger: FakeLedger, options: Partial<StakeSetOptions> = {}): Promise<StakeSet> {
  const set = await createStakeSet({
    ledger,
    subnetId: FAKE_SUBNET,
    now: () => clock,
    pulseMs: 20,
    ...options,
  })
  sets.push(set)
  return set
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 3_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

const reasonOf = (set: StakeSet, peerId: string, action: StakeAction = 'infer'): string => {
  const verdict = set.check(peerId, action)
  return verdict.ok ? 'ok' : verdict.reason
}

describe('createStakeSet', () => {
  it('admits each node by all its peer ids, and nobody else', async () => {
    const ledger = fakeLedger([
      fakeNode(1, 'a', { bootnodePeerId: 'a-boot', clientPeerId: 'a-client', stake: 250n }),
    ])
    const set = await setOf(ledger)
    for (const peerId of ['a', 'a-boot', 'a-client']) {
      expect(set.check(peerId, 'serve')).toEqual({ ok: true, class: 'Validator', stake: 250n, ratio: 2.5 })
    }
    expect(reasonOf(set, 'b')).toBe('b has no stake in subnet 1')
    expect(set.block).toBe(1)
  })

  it('class, its first epoch, the queue and the least stake decide each action', async () => {
    const ledger = fakeLedger([
      fakeNode(1, 'registered', { class: 'Registered' }),
      fakeNode(2, 'idle', { class: 'Idle' }),
      fakeNode(3, 'later', { class: 'Idle', startEpoch: 1 }),
      fakeNode(4, 'queued', { queued: true }),
      fakeNode(5, 'poor', { stake: 99n }),
    ])
    const set = await setOf(ledger)
    expect(reasonOf(set, 'registered', 'connect')).toBe('ok')
    expect(reasonOf(set, 'registered', 'serve')).toBe('node 1 is Registered; to serve takes Idle')
    expect(reasonOf(set, 'idle', 'serve')).toBe('ok')
    expect(reasonOf(set, 'later', 'serve')).toContain('Idle from epoch 1 on')
    expect(reasonOf(set, 'queued', 'serve')).toContain('is Registered')
    expect(reasonOf(set, 'poor', 'connect')).toBe('node 5 has a stake of 99; to connect takes 100')
    // The class begins to count with its epoch, without any event.
    for (let i = 0; i < 10; i++) ledger.mine()
    await until(() => reasonOf(set, 'later', 'serve') === 'ok', 'epoch 1 began')
  })

  it('follows registrations, removals and parameters block by block', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    const set = await setOf(ledger)
    const revoked: [string, string, number][] = []
    set.onRevoked((peerId, reason, lost) => revoked.push([peerId, reason, lost.size]))
    ledger.register({ id: 2, peerId: 'b' })
    await until(() => set.check('b', 'serve').ok, 'b is there')
    // Removal counts in the very call that brings the block: nothing is read before.
    ledger.slow = () => new Promise(() => undefined)
    ledger.remove(2)
    expect(set.check('b', 'connect').ok).toBe(false)
    expect(revoked).toEqual([['b', 'it is no node of subnet 1 any more', 7]])
    ledger.slow = undefined
  })

  it('stake that falls and classes that rise in the parameters take the action, and only that', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a', { class: 'Idle' })])
    const set = await setOf(ledger)
    const lost: string[] = []
    set.onRevoked((_, __, actions) => lost.push(...actions))
    ledger.subnetFields = { misc: JSON.stringify({ minClass: { serve: 'Included' }, graceMs: 5_000 }) }
    ledger.mine([networkEvent('SubnetMiscUpdate')])
    await until(() => lost.length > 0, 'serve was lost')
    expect(lost).toEqual(['serve'])
    expect(set.parameters.graceMs).toBe(5_000)
    ledger.subnetFields = { misc: '{"graceMs": "a while"}' }
    ledger.table.set(1, fakeNode(1, 'a', { stake: 5n }))
    ledger.mine([networkEvent('StakeRemoved', { 0: FAKE_SUBNET, 1: '0xc', 2: '0xh', 3: 995n })])
    await until(() => !set.check('a', 'connect').ok, 'the stake is gone')
    expect(set.parameters.graceMs).toBe(5_000)
  })

  it('reads again after a gap and a reorganisation, not for blocks of others', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    const set = await setOf(ledger, { pulseMs: 60_000 })
    const before = ledger.reads.nodes
    ledger.mine()
    ledger.mine([{ pallet: 'Balances', name: 'Transfer', data: {} }])
    ledger.mine([networkEvent('SubnetNodeRegistered', { subnet_id: 7, subnet_node_id: 1 })])
    await new Promise((resolve) => setImmediate(resolve))
    expect(ledger.reads.nodes).toBe(before)
    ledger.table.set(2, fakeNode(2, 'unseen'))
    ledger.mine([], { skip: 3 })
    await until(() => set.check('unseen', 'infer').ok, 'the gap was read')
    ledger.table.delete(2)
    ledger.mine([], { fork: true })
    await until(() => !set.check('unseen', 'infer').ok, 'the fork was read')
  })

  it('fails closed after the grace, with the reason, and recovers by itself', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    const set = await setOf(ledger)
    ledger.condition = 'down'
    clock = 119_000
    expect(reasonOf(set, 'a')).toBe('ok')
    clock = 125_000
    expect(reasonOf(set, 'a')).toBe(
      'the ledger could not be read for 125 s (the node is down): nobody is admitted until it can',
    )
    expect(await set.resolve('overwatch', 'infer')).toMatchObject({ ok: false })
    expect(ledger.reads.proofs).toBe(0)
    ledger.table.set(2, fakeNode(2, 'b'))
    ledger.condition = 'up'
    await until(() => set.check('a', 'infer').ok && set.check('b', 'infer').ok, 'it recovered')
  })

  it('a node that tells of blocks and never answers a reading counts as unreadable', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    const set = await setOf(ledger)
    ledger.slow = () => new Promise(() => undefined)
    ledger.mine([networkEvent('StakeAdded')])
    clock = 100_000
    ledger.mine()
    expect(reasonOf(set, 'a')).toBe('ok')
    clock = 130_000
    ledger.mine()
    expect(reasonOf(set, 'a')).toContain('could not be read')
  })

  it('another genesis does not count as an answer', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    const set = await setOf(ledger)
    ledger.condition = 'wrong-chain'
    clock = 121_000
    await until(() => reasonOf(set, 'a').includes('the node is wrong-chain'), 'it is refused')
  })

  it('starts blind where the ledger is down, and sees when it comes', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    ledger.condition = 'down'
    const set = await setOf(ledger)
    expect(reasonOf(set, 'a')).toContain('could not be read')
    ledger.condition = 'up'
    await until(() => set.check('a', 'infer').ok, 'it was read')
  })

  it('proofs of others are asked once, refusals sooner again, and both within bounds', async () => {
    const ledger = fakeLedger([fakeNode(1, 'a')])
    ledger.extra.add('overwatch')
    const set = await setOf(ledger, { pulseMs: 60_000 })
    expect(set.check('overwatch', 'connect').ok).toBe(false)
    expect((await set.resolve('overwatch', 'connect')).ok).toBe(true)
    expect(set.check('overwatch', 'connect').ok).toBe(true)
    await set.resolve('overwatch', 'connect')
    expect(ledger.reads.proofs).toBe(1)
    await set.resolve('stranger', 'connect')
    await set.resolve('stranger', 'connect')
    expect(ledger.reads.proofs).toBe(2)
    clock += 6_000
    await set.resolve('stranger', 'connect')
    expect(ledger.reads.proofs).toBe(3)
    // A crowd of strangers becomes no flood on the ledger's node.
    const crowd = await Promise.all(
      Array.from({ length: 500 }, (_, i) => set.resolve(`crowd-${i}`, 'connect')),
    )
    expect(ledger.reads.proofs).toBeLessThanOrEqual(3 + 8)
    expect(crowd.every(({ ok }) => !ok)).toBe(true)
    expect(
      crowd.filter((verdict) => !verdict.ok && verdict.retryAfterMs !== undefined).length,
    ).toBeGreaterThan(400)
  })

  it('a proof that was withdrawn is revoked with the block that says so', async () => {
    const ledger = fakeLedger([])
    ledger.extra.add('boot')
    const set = await setOf(ledger)
    await set.resolve('boot', 'connect')
    const revoked: string[] = []
    set.onRevoked((peerId) => revoked.push(peerId))
    ledger.extra.delete('boot')
    ledger.mine([networkEvent('BootnodesUpdated')])
    await until(() => revoked.includes('boot'), 'it was revoked')
    expect(set.check('boot', 'connect').ok).toBe(false)
  })
})
