import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  activateSubnet,
  addDelegateStake,
  attest,
  claimUnbondings,
  proposeAttestation,
  registerNode,
  registerSubnet,
  transfer,
} from '../../src/ledger/calls.ts'
import { balanceFor, subnetEpochOf } from '../../src/ledger/formulas.ts'
import type { Ledger, LedgerBlock, LedgerSigner } from '../../src/ledger/ledger.ts'
import { base58Text, multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'
import { devAccount } from '../../src/ledger/substrate/dev-accounts.ts'
import { keyFromSeed, signerOf } from '../../src/ledger/substrate/key-derivation.ts'

/** A development chain with rich dev accounts behind the port. */
export interface LedgerChain {
  readonly ledger: Ledger
  /** Makes blocks now. */
  makeBlocks(count: number): Promise<void>
  close(): Promise<void>
}

const UNIT = 10n ** 18n
const DEADLINE_MS = 20_000

/** A signer whose key is its number. */
export function signerOfNumber(number: number): LedgerSigner {
  return signerOf(keyFromSeed(new Uint8Array(32).fill(number), 'ethereum'))
}

/** Text of an ed25519 peer id. */
export function peerIdOfNumber(number: number): string {
  return base58Text(Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...new Uint8Array(32).fill(number)]))
}

/** Polls until `holds`; fails at the deadline. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** What every `Ledger` does, on a fresh chain with Hypertensor's Network pallet. */
export function ledgerContract(name: string, open: () => Promise<LedgerChain>): void {
  describe(`Ledger: ${name}`, () => {
    let chain: LedgerChain
    let ledger: Ledger
    const seen: LedgerBlock[] = []
    const alith = signerOf(devAccount('alith'))
    const baltathar = signerOf(devAccount('baltathar'))

    beforeAll(async () => {
      chain = await open()
      ledger = chain.ledger
      ledger.watch((block) => seen.push(block))
    }, 60_000)
    afterAll(async () => {
      await chain.close()
    })

    it('info names the chain, its token and its epochs', () => {
      expect(ledger.info).toMatchObject({
        tokenSymbol: 'TENSOR',
        tokenDecimals: 18,
        accounts: 'ethereum',
        epochBlocks: 20,
      })
      expect(ledger.info.genesisHash).toMatch(/^0x[0-9a-f]{64}$/)
      expect(ledger.info.blockMs).toBeGreaterThan(0)
      expect(ledger.status.state).toBe('reachable')
    })

    it('head: the final block is not above the best one', async () => {
      const head = await ledger.head()
      expect(head.finalizedNumber).toBeLessThanOrEqual(head.number)
      expect(head.hash).toMatch(/^0x[0-9a-f]{64}$/)
    })

    it('balance: 0 of an unknown account, a dev account is rich, old blocks keep theirs', async () => {
      const fresh = signerOfNumber(101).address
      expect(await ledger.balance(fresh)).toBe(0n)
      expect(await ledger.balance(alith.address)).toBeGreaterThan(100_000n * UNIT)
      const { hash } = await ledger.head()
      await ledger.submit(transfer(fresh, 3n * UNIT), alith)
      expect(await ledger.balance(fresh)).toBe(3n * UNIT)
      expect(await ledger.balance(fresh, hash)).toBe(0n)
    })

    it('submit answers with the place and only the events of the call', async () => {
      const before = await ledger.balance(alith.address)
      const fee = await ledger.fee(transfer(baltathar.address, UNIT), alith)
      const done = await ledger.submit(transfer(baltathar.address, UNIT), alith)
      expect(done.extrinsicHash).toMatch(/^0x[0-9a-f]{64}$/)
      const names = done.events.map((event) => `${event.pallet}.${event.name}`)
      expect(names).toContain('Balances.Transfer')
      expect(names.at(-1)).toBe('System.ExtrinsicSuccess')
      expect(new Set(done.events.map(({ extrinsic }) => extrinsic)).size).toBe(1)
      const moved = done.events.find((event) => event.name === 'Transfer')?.data
      expect(moved).toEqual({ from: alith.address, to: baltathar.address, amount: UNIT })
      const paid = before - (await ledger.balance(alith.address)) - UNIT
      expect(paid).toBeGreaterThan(0n)
      expect(paid).toBeLessThanOrEqual(fee)
      await eventually('the block is told', () => seen.some(({ hash }) => hash === done.blockHash))
    })

    it('parallel sends of one account are numbered, included once each, in order', async () => {
      const to = signerOfNumber(102).address
      const sent = await Promise.all(
        Array.from({ length: 12 }, (_, i) => ledger.submit(transfer(to, BigInt(i + 1) * UNIT), alith)),
      )
      expect(await ledger.balance(to)).toBe(78n * UNIT)
      expect(new Set(sent.map(({ extrinsicHash }) => extrinsicHash)).size).toBe(12)
      const places = sent.map(({ blockNumber, events }) => blockNumber * 1000 + (events[0]?.extrinsic ?? 0))
      expect(places).toEqual([...places].sort((a, b) => a - b))
    })

    it('until finalized: the block is final when it answers', async () => {
      const done = await ledger.submit(transfer(baltathar.address, 1n), alith, { until: 'finalized' })
      const head = await ledger.head()
      expect(head.finalizedNumber).toBeGreaterThanOrEqual(done.blockNumber)
    })

    it('a dispatch error rejects with ledger, by name, and says what to do', async () => {
      await expect(ledger.submit(activateSubnet(7), alith)).rejects.toMatchObject({
        code: 'ledger',
        message: expect.stringMatching(/Network\.(InvalidSubnetId|NotSubnetOwner)/) as string,
      })
      await expect(ledger.submit(claimUnbondings(), alith)).rejects.toThrow(
        /Network\.NoStakeUnbondingsOrCooldownNotMet/,
      )
      // The account goes on with the next number.
      await ledger.submit(transfer(baltathar.address, 1n), alith)
    })

    it('an account that can not pay is told so', async () => {
      const poor = signerOfNumber(103)
      await expect(ledger.submit(transfer(alith.address, 1n), poor)).rejects.toMatchObject({ code: 'ledger' })
    })

    it('an unknown call is not_supported, wrong arguments are bad_request', async () => {
      await expect(
        ledger.submit({ pallet: 'Network', call: 'print_money', args: {} }, alith),
      ).rejects.toMatchObject({
        code: 'not_supported',
      })
      for (const args of [{}, { subnet_id: -1 }, { subnet_id: 1, extra: 2 }, { subnet_id: 'x' }]) {
        const call = { pallet: 'Network', call: 'activate_subnet', args }
        await expect(ledger.submit(call, alith), JSON.stringify(args)).rejects.toMatchObject({
          code: 'bad_request',
        })
      }
    })

    it('an aborted submit is cancelled', async () => {
      const signal = AbortSignal.abort()
      await expect(ledger.submit(transfer(baltathar.address, 1n), alith, { signal })).rejects.toMatchObject({
        code: 'cancelled',
      })
    })

    it('storage: values, defaults, absent entries, unknown names', async () => {
      expect(await ledger.storage('Network', 'MinSubnetNodes', [])).toBe(3)
      expect(await ledger.storage('Network', 'MinAttestationPercentage', [])).toBe((66n * UNIT) / 100n)
      expect(await ledger.storage('Network', 'AccountSubnetStake', [alith.address, 5])).toBe(0n)
      expect(await ledger.storage('Network', 'SubnetsData', [5])).toBeUndefined()
      await expect(ledger.storage('Network', 'Nonsense', [])).rejects.toMatchObject({ code: 'not_supported' })
    })

    it('watch tells every block once, each following the one before', async () => {
      const from = (await ledger.head()).number
      await chain.makeBlocks(5)
      await eventually('five blocks', () => (seen.at(-1)?.number ?? 0) >= from + 5)
      for (const [i, block] of seen.entries()) {
        const before = seen[i - 1]
        if (before === undefined) continue
        expect(block.number).toBe(before.number + 1)
        expect(block.parentHash).toBe(before.hash)
      }
    })

    it('a subnet lives: registered, with nodes, elected, proposed and attested', async () => {
      const coldkeys = [1, 2, 3].map(signerOfNumber)
      const hotkeys = [11, 12, 13].map(signerOfNumber)
      await Promise.all([
        ...coldkeys.map(({ address }) => ledger.submit(transfer(address, 200n * UNIT), alith)),
        ...hotkeys.map(({ address }) => ledger.submit(transfer(address, UNIT), alith)),
      ])
      const boot = peerIdOfNumber(99)
      const made = await ledger.submit(
        registerSubnet(10n * UNIT, {
          name: 'contract',
          repo: 'https://example.org/contract',
          description: 'a subnet',
          misc: '{"graceMs":1}',
          minStake: 100n * UNIT,
          maxStake: 200n * UNIT,
          delegateStakePercentage: UNIT / 10n,
          initialColdkeys: coldkeys.map(({ address }) => [address, 1]),
          bootnodes: [[boot, multiaddrBytes(`/ip4/127.0.0.1/tcp/1/p2p/${boot}`)]],
        }),
        alith,
      )
      const id = Number(made.events.find((event) => event.name === 'SubnetRegistered')?.data['subnet_id'])
      expect(await ledger.subnet(id + 1)).toBeUndefined()
      expect(await ledger.subnet(id)).toMatchObject({
        id,
        name: 'contract',
        repo: 'https://example.org/contract',
        description: 'a subnet',
        misc: '{"graceMs":1}',
        state: 'Registered',
        owner: alith.address,
        minStake: 100n * UNIT,
        maxStake: 200n * UNIT,
        delegateStakeBalance: 0n,
        reputation: UNIT,
      })
      expect((await ledger.subnets()).map((subnet) => subnet.id)).toContain(id)
      expect(await ledger.subnets(made.blockHash)).toEqual(await ledger.subnets())

      for (const [i, coldkey] of coldkeys.entries()) {
        await ledger.submit(
          registerNode({
            subnetId: id,
            hotkey: hotkeys[i]?.address ?? '',
            peer: { peerId: peerIdOfNumber(i + 1) },
            ...(i === 0 && { clientPeer: { peerId: peerIdOfNumber(50) } }),
            stake: 100n * UNIT,
            maxBurn: UNIT,
          }),
          coldkey,
        )
      }
      const nodes = await ledger.nodes(id)
      expect(nodes.map((node) => [node.id, node.coldkey, node.hotkey, node.peerId])).toEqual(
        coldkeys.map(({ address }, i) => [i + 1, address, hotkeys[i]?.address, peerIdOfNumber(i + 1)]),
      )
      expect(nodes[0]).toMatchObject({
        clientPeerId: peerIdOfNumber(50),
        bootnodePeerId: undefined,
        class: 'Validator',
        stake: 100n * UNIT,
        reputation: UNIT,
        queued: false,
      })
      expect(await ledger.nodes(id, made.blockHash)).toEqual([])
      for (const [peer, least, expected] of [
        [peerIdOfNumber(1), undefined, true],
        [peerIdOfNumber(50), undefined, true],
        [peerIdOfNumber(1), 100n * UNIT + 1n, false],
        [peerIdOfNumber(51), undefined, false],
      ] as const) {
        expect(await ledger.proofOfStake(id, peer, 'Registered', least), peer).toBe(expected)
      }

      await ledger.submit(addDelegateStake(id, 20_000n * UNIT), alith)
      const { shares, balance } = await ledger.delegateStake(alith.address, id)
      expect(shares).toBe(20_000n * UNIT)
      const all = await ledger.storage('Network', 'TotalSubnetDelegateStakeShares', [id])
      expect(balance).toBe(balanceFor(shares, all as bigint, 20_000n * UNIT))
      expect(await ledger.delegateStake(baltathar.address, id)).toEqual({ shares: 0n, balance: 0n })

      const { epochBlocks } = ledger.info
      const slot = (await ledger.subnet(id))?.slot ?? 0
      await chain.makeBlocks(2 * epochBlocks)
      await ledger.submit(activateSubnet(id), alith)
      expect((await ledger.subnet(id))?.state).toBe('Active')
      let epoch = 0
      let elected: number | undefined
      for (let tries = 0; tries < 5 && elected === undefined; tries++) {
        const { number } = await ledger.head()
        const now = subnetEpochOf(number, slot, epochBlocks)
        await chain.makeBlocks((now.epoch + 1) * epochBlocks + slot - number)
        epoch = now.epoch + 1
        elected = await ledger.electedNode(id, epoch)
      }
      expect([1, 2, 3]).toContain(elected)
      expect(await ledger.consensus(id, epoch)).toBeUndefined()
      const proposer = hotkeys[(elected ?? 1) - 1] ?? alith
      const scores = [1, 2, 3].map((nodeId) => ({ nodeId, score: BigInt(nodeId) }))
      const args = Uint8Array.of(1, 2, 3)
      await ledger.submit(proposeAttestation(id, scores, { args }), proposer)
      const other = [1, 2, 3].find((node) => node !== elected) ?? 1
      await ledger.submit(attest(id), hotkeys[other - 1] ?? alith)
      const consensus = await ledger.consensus(id, epoch)
      expect(consensus).toMatchObject({ proposer: elected, scores, args, validators: [1, 2, 3] })
      expect(new Set(consensus?.attestors)).toEqual(new Set([elected, other]))
      expect(await ledger.unbondings(alith.address)).toEqual([])
      expect(await ledger.disputes(id)).toEqual([])
    }, 60_000)

    it('closed: nothing more is sent or told', async () => {
      const count = seen.length
      await ledger.close()
      await expect(ledger.submit(transfer(baltathar.address, 1n), alith)).rejects.toMatchObject({
        code: 'cancelled',
      })
      await chain.makeBlocks(2)
      expect(seen.length).toBe(count)
    })
  })
}
