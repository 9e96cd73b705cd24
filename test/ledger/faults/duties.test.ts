import { afterAll, expect, it } from 'vitest'
import { epochTime } from '../../../src/attest/epoch-clock.ts'
import { createReportPool } from '../../../src/attest/report-pool.ts'
import { type Attest, runAttest } from '../../../src/attest/run-attest.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { addDelegateStake, claimUnbondings, removeDelegateStake } from '../../../src/ledger/calls.ts'
import type { Ledger, LedgerValue } from '../../../src/ledger/ledger.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import { createIdentity, signBytes, verifySignature } from '../../../src/swarm/identity.ts'
import { type FaultyNode, faultyNode } from './faulty-node.ts'
import { COLDKEYS, foundSubnet, HOTKEYS, UNIT } from './found-subnet.ts'

/** Four nodes do their duties over connections that are cut and slow, on a chain that forks and a node that dies. */

const EPOCH_BLOCKS = 20
const NODES = 4
/** No node's: what it has changes by its own calls alone. */
const delegator = COLDKEYS[4]!
const quick = { timeoutMs: 2_000, healthMs: 300, retryMs: { first: 10, most: 50 } }

const closers: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
}, 20_000)

/** What happens before the block with that number in its epoch, by epoch. */
const FAULTS: readonly Readonly<Record<number, (faulty: FaultyNode) => unknown>>[] = [
  {},
  // Answers and news are lost on the way, calls too.
  Object.fromEntries([1, 2, 3, 4, 6, 8, 9].map((block) => [block, (faulty) => faulty.cut()])),
  { 0: (faulty) => (faulty.delayMs = 50), 10: (faulty) => (faulty.delayMs = 0) },
  // What was proposed and attested is undone: forgotten by the node, or put back into its pool.
  {
    3: ({ node }) => node.reorg(2, 'drop'),
    6: ({ node }) => node.reorg(2, 'pool'),
    12: ({ node }) => node.reorg(3, 'include'),
    15: ({ node }) => node.reorg(1, 'drop'),
  },
  // Its pool is gone with it.
  {
    1: async (faulty) => {
      await faulty.kill()
      await faulty.start({ mode: 'manual' })
    },
    4: async (faulty) => {
      await faulty.kill()
      await faulty.start({ mode: 'manual' })
    },
  },
]

it('nothing is proposed, attested, paid or claimed twice; what can be done is done', async () => {
  const faulty = await faultyNode()
  closers.push(() => faulty.close())
  const identities = await Promise.all(Array.from({ length: NODES }, () => createIdentity()))
  const founder = await connectLedger(faulty.url, quick)
  closers.push(() => founder.close())
  const subnetId = await foundSubnet(
    faulty.node,
    founder,
    identities.map(({ peerId }) => peerId),
  )
  await founder.submit(addDelegateStake(subnetId, 500n * UNIT), delegator)
  const { shares } = await founder.delegateStake(delegator.address, subnetId)
  await founder.submit(removeDelegateStake(subnetId, shares), delegator)
  const slot = (await founder.subnet(subnetId))!.slot!
  const registered = await founder.nodes(subnetId)
  const peerOf = new Map(registered.map(({ id, peerId }) => [id, peerId]))
  const height = (): number => faulty.node.chain.head.header.number
  while ((height() - slot) % EPOCH_BLOCKS !== EPOCH_BLOCKS - 1) faulty.node.build()
  faulty.node.mode = 'manual'
  const firstEpoch = Math.floor((height() + 1 - slot) / EPOCH_BLOCKS)

  const pools = identities.map(() =>
    createReportPool({ subnetId, verify: verifySignature, isNode: (id, peer) => peerOf.get(id) === peer }),
  )
  const duties: (Attest & { stop(): Promise<void> })[] = []
  for (const [i, identity] of identities.entries()) {
    const ledger: Ledger = await connectLedger(faulty.url, quick)
    const running = runAttest({
      ledger,
      signer: HOTKEYS[i]!,
      subnetId,
      nodeId: registered.find(({ peerId }) => peerId === identity.peerId)!.id,
      sign: (bytes) => signBytes(identity, bytes),
      pool: pools[i]!,
      publish: async (bytes) => {
        for (const pool of pools) await pool.add(bytes)
      },
      fetch: async (hash) => pools.map((pool) => pool.get(hash)).find((bytes) => bytes !== undefined),
      submitTimeoutMs: 4_000,
      observe: async (view) => ({
        peerId: identity.peerId,
        modelId: 'faults@1',
        blockCount: 8,
        start: 0,
        end: 8,
        sightings: view.nodes.map(({ nodeId }) => ({ nodeId, start: 0, end: 8, uptime: 1_000 })),
        receipts: [],
      }),
      judge: {
        verify: verifySignature,
        loadSpan: () => Promise.reject(new ChoraleError('not_found', 'none')),
      },
      ask: () => Promise.reject(new ChoraleError('not_found', 'none')),
    })
    duties.push(running)
    closers.push(async () => {
      await ledger.close()
      await running.stop()
    })
  }

  /** Until every node looked at the best block, or waits for the next one; at most `ms`. */
  const settle = async (ms: number): Promise<void> => {
    const now = epochTime(height(), slot, EPOCH_BLOCKS)
    const deadline = performance.now() + ms
    let readySince = Infinity
    while (performance.now() < deadline) {
      const looked = duties.filter(
        ({ state }) => state?.time.epoch === now.epoch && state.time.progress === now.progress,
      ).length
      if (looked === NODES) return
      const time = performance.now()
      readySince = faulty.node.pool.readyCount > 0 ? Math.min(readySince, time) : Infinity
      if (time - readySince > 60) return
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  const unbonding = (await founder.unbondings(delegator.address)).reduce(
    (sum, { amount }) => sum + amount,
    0n,
  )
  expect(unbonding).toBeGreaterThan(400n * UNIT)
  const before = await founder.balance(delegator.address)
  let claim: Promise<unknown> | undefined
  for (const [i, faults] of FAULTS.entries()) {
    for (let block = 0; block < EPOCH_BLOCKS; block = height() + 1 - slot - (firstEpoch + i) * EPOCH_BLOCKS) {
      await faults[block]?.(faulty)
      faulty.node.finalityLag = 12
      faulty.node.build()
      await settle(1_000)
      if (claim === undefined && i === 1 && block === 5) {
        claim = founder.submit(claimUnbondings(), delegator)
      }
    }
  }
  faulty.node.finalityLag = 0
  faulty.node.build(3)
  await claim
  // Cut and undone in between, it came once, less a fee.
  const gained = (await founder.balance(delegator.address)) - before
  expect(gained).toBeLessThanOrEqual(unbonding)
  expect(gained).toBeGreaterThan(unbonding - UNIT)
  expect(await founder.unbondings(delegator.address)).toEqual([])

  const events = await allEvents(faulty, founder)
  const keys = (name: string, ...fields: readonly string[]): readonly string[] =>
    events
      .filter((event) => event.name === name)
      .map(({ data }) => fields.map((one) => JSON.stringify(data[one])).join(' '))
  const proposed = keys('ValidatorSubmission', 'epoch')
  const attested = keys('Attestation', 'subnet_node_id', 'epoch')
  for (const made of [proposed, attested]) expect(made).toEqual([...new Set(made)])
  const epochs = FAULTS.map((_, i) => String(firstEpoch + i))
  expect(proposed).toEqual(epochs)
  // Three of four, the proposer's own among them, in an epoch without faults; two thirds are paid.
  for (const epoch of epochs) {
    expect(
      attested.filter((one) => one.endsWith(` ${epoch}`)).length,
      `attestations of epoch ${epoch}`,
    ).toBeGreaterThanOrEqual(3)
  }
  // Each epoch is paid in the one after it, once.
  const paid = events.filter(({ name }) => name === 'SubnetRewards').map(({ block }) => block)
  expect(new Set(paid.map((block) => Math.floor((block - slot) / EPOCH_BLOCKS))).size).toBe(paid.length)
  expect(paid.length).toBeGreaterThanOrEqual(FAULTS.length - 1)
  expect(keys('Slashing', 'account_id')).toEqual([])
}, 60_000)

interface ChainEvent {
  readonly block: number
  readonly name: string
  readonly data: Readonly<Record<string, LedgerValue>>
}

/** Events of the Network pallet in every block of the best chain. */
async function allEvents(faulty: FaultyNode, ledger: Ledger): Promise<ChainEvent[]> {
  const found: ChainEvent[] = []
  for (let block = 1; block <= faulty.node.chain.head.header.number; block++) {
    const hash = faulty.node.chain.hashAt(block)
    const records = (await ledger.storage('System', 'Events', [], hash)) as unknown as {
      event: { type: string; value: { type: string; value: Record<string, LedgerValue> } }
    }[]
    for (const { event } of records) {
      if (event.type === 'Network') found.push({ block, name: event.value.type, data: event.value.value })
    }
  }
  return found
}
