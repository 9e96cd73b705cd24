import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { serveJsonRpc } from '../../../node/json-rpc-server.ts'
import { transfer } from '../../../src/ledger/calls.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'
import type { Ledger, LedgerSigner } from '../../../src/ledger/ledger.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import { keyFromSeed, signerOf } from '../../../src/ledger/substrate/key-derivation.ts'
import { eventually } from '../../contract/ledger-contract.ts'
import { assetHubNode } from '../devnet/asset-hub.ts'
import { devNode, Wire } from './wired-node.ts'

describe("connectLedger on a real parachain's runtime: 32-byte accounts, no Network pallet", () => {
  const node = assetHubNode()
  let ledger: Ledger
  let close: () => Promise<void>
  const alice = signerOf(devAccount('alice'))

  beforeAll(async () => {
    const server = await serveJsonRpc(createRpcServer(node), { port: 0 })
    ledger = await connectLedger(server.url)
    close = async () => {
      await ledger.close()
      await server.close()
      node.close()
    }
  }, 30_000)
  afterAll(() => close())

  it('info: substrate accounts, no epochs, no disputes', () => {
    expect(ledger.info).toMatchObject({ accounts: 'substrate', epochBlocks: 0, disputes: false })
  })

  it.each(['sr25519', 'ed25519', 'ecdsa'] as const)('%s signs what the runtime takes', async (kind) => {
    const signer: LedgerSigner = signerOf(keyFromSeed(new Uint8Array(32).fill(9), kind))
    const fee = await ledger.fee(transfer(alice.address, 1n), signer)
    expect(fee).toBeGreaterThan(0n)
    // The account is empty: a signature that does not verify would be told as such, not as the fee.
    await expect(ledger.submit(transfer(alice.address, 1n), signer)).rejects.toThrow(
      /too little to pay the fee/,
    )
  })

  it('an Ethereum key is refused with the fix', async () => {
    const call = transfer(alice.address, 1n)
    await expect(ledger.submit(call, signerOf(devAccount('alith')))).rejects.toThrow(
      /32-byte accounts.*sr25519/,
    )
  })

  it('reads of subnets say what is missing; proof of stake is false', async () => {
    await expect(ledger.subnets()).rejects.toMatchObject({ code: 'not_supported' })
    expect(
      await ledger.proofOfStake(1, '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp', 'Registered'),
    ).toBe(false)
    expect(await ledger.disputes(1)).toEqual([])
    expect(await ledger.balance(alice.address)).toBe(0n)
  })
})

describe('runtime upgrades', () => {
  it('metadata is read anew when the node says another version after a reconnect', async () => {
    const node = devNode()
    const wire = new Wire(node)
    const ledger = await connectLedger('ws://wired', {
      openSocket: wire.openSocket,
      retryMs: { first: 5, most: 10 },
    })
    const reads = (): number =>
      wire.requests.filter(
        ({ params }) => (params as unknown[] | undefined)?.[0] === 'Metadata_metadata_at_version',
      ).length
    const before = reads()
    const version = {
      specName: 'chorale',
      implName: 'x',
      authoringVersion: 1,
      specVersion: 999,
      implVersion: 1,
      apis: [],
      transactionVersion: 1,
      stateVersion: 1,
    }
    wire.intercept = ({ method }) => (method === 'state_getRuntimeVersion' ? { result: version } : undefined)
    wire.cut()
    await eventually('metadata', () => reads() > before)
    expect(await ledger.storage('Network', 'MinSubnetNodes', [])).toBe(3)
    await ledger.close()
    node.close()
  })

  it('old metadata, no metadata and nonsense are refused when connecting, and nothing is printed', async () => {
    const node = devNode()
    const printed = (['log', 'warn', 'error', 'info', 'debug'] as const).map((name) =>
      vi.spyOn(console, name),
    )
    for (const result of ['0x6d6574610d00', '0x', `0x6d6574610e${'ff'.repeat(64)}`, null]) {
      const wire = new Wire(node)
      wire.intercept = ({ method, params }) =>
        method === 'state_getMetadata' ||
        (params as unknown[] | undefined)?.[0] === 'Metadata_metadata_at_version'
          ? { result }
          : undefined
      await expect(
        connectLedger('ws://wired', { openSocket: wire.openSocket }),
        String(result),
      ).rejects.toMatchObject({ code: 'ledger' })
    }
    for (const spy of printed) expect(spy).not.toHaveBeenCalled()
    vi.restoreAllMocks()
    node.close()
  })
})
