import { existsSync, readFileSync } from 'node:fs'
import { Keyring } from '@polkadot/api'
import type { KeyringPair } from '@polkadot/keyring/types'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseChainSpec } from '../../../src/ledger/devnet/chain-spec.ts'
import { DEV_ACCOUNTS, patchEthereumGenesis } from '../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode } from '../../../src/ledger/devnet/dev-node.ts'
import { encodeHeader } from '../../../src/ledger/devnet/header.ts'
import { createStateStore } from '../../../src/ledger/devnet/storage.ts'
import { CODE_KEY, createWasmRuntime } from '../../../src/ledger/devnet/wasm-runtime.ts'
import { serveNode, type Served } from './asset-hub.ts'

const SPEC = process.env['CHORALE_HYPERTENSOR_SPEC'] ?? ''
const isThere = existsSync(SPEC)
if (!isThere) {
  process.stdout.write(
    "skipped: Hypertensor's own runtime; CHORALE_HYPERTENSOR_SPEC names no raw chain spec (hoskinsonSpecRaw.json)\n",
  )
}

/** A development key that everybody knows. */
const ALITH = '0x5fb92d6e98884f76de468fa3f6278f8807c48bebc13595d45af5bdc4da702133'

describe.skipIf(!isThere)("dev chain on Hypertensor's own runtime", () => {
  let served: Served
  let alith: KeyringPair

  beforeAll(async () => {
    const spec = parseChainSpec(readFileSync(SPEC, 'utf8'))
    const genesis = patchEthereumGenesis(spec.genesis)
    const code = createStateStore(genesis).get(CODE_KEY)!
    const { name, properties } = spec
    served = await serveNode(
      new DevNode({ runtime: createWasmRuntime(code), genesis, name, properties, finalityDelayMs: 200 }),
    )
    alith = new Keyring({ type: 'ethereum' }).addFromUri(ALITH)
  })

  afterAll(() => served.close())

  it('has rich dev accounts, Alith as sudo and the Network pallet', async () => {
    const { api } = served
    for (const { address } of DEV_ACCOUNTS) {
      const { data } = (await api.query['system']!['account']!(address)).toJSON() as {
        data: { free: string }
      }
      expect(BigInt(data.free)).toBe(10n ** 24n)
    }
    expect((await api.query['sudo']!['key']!()).toString().toLowerCase()).toBe(DEV_ACCOUNTS[0]?.address)
    expect(api.tx['network']!['registerSubnet']).toBeDefined()
    expect((await api.query['network']!['minSubnetRegistrationEpochs']!()).toJSON()).toBe(1)
  })

  it('includes an ECDSA-signed transfer and a sudo call', async () => {
    const { api } = served
    const events = await new Promise<string[]>((resolve, reject) => {
      const change = api.tx['network']!['setMaxSubnets']!(20)
      api.tx['utility']!['batchAll']!([
        api.tx['balances']!['transferKeepAlive']!(DEV_ACCOUNTS[1]!.address, 10n ** 18n),
        api.tx['sudo']!['sudo']!(change),
      ])
        .signAndSend(alith, { nonce: -1 }, ({ status, events: list, isError }) => {
          if (status.isFinalized) resolve(list.map(({ event }) => `${event.section}.${event.method}`))
          if (isError) reject(new Error(status.type))
        })
        .catch(reject)
    })
    expect(events).toEqual(
      expect.arrayContaining(['balances.Transfer', 'sudo.Sudid', 'system.ExtrinsicSuccess']),
    )
  })

  it('answers the Network pallet over its own RPC', async () => {
    expect(await served.request('network_proofOfStake', [1, '12D3KooWnobody', 0])).toBe(false)
    expect(await served.request('network_getAllSubnetsInfo', [])).toEqual(expect.any(Array))
    await expect(served.request('network_proofOfStake', ['one', '12D3KooWnobody', 0])).rejects.toThrow(
      'parameter 1',
    )
  })

  it('makes at least 20 blocks a second', () => {
    const { node } = served
    node.build(20)
    const start = performance.now()
    node.build(100)
    const perSecond = 100_000 / (performance.now() - start)
    process.stdout.write(`${perSecond.toFixed(0)} blocks a second\n`)
    expect(perSecond).toBeGreaterThan(20)
  })

  it('makes blocks that the runtime itself executes again to the same state', () => {
    const { node } = served
    for (let { number } = node.chain.head.header; number > node.chain.head.header.number - 30; number--) {
      const { header, extrinsics } = node.block(node.chain.hashAt(number))
      const block = Buffer.concat([
        encodeHeader(header),
        Uint8Array.of(extrinsics.length << 2),
        ...extrinsics,
      ])
      const overlay = node.state(node.chain.hashAt(number - 1)).overlay()
      node.runtime.call('Core_execute_block', block, overlay)
      expect(overlay.root(1)).toEqual(header.stateRoot)
    }
  })

  it('has the state root that its headers say', () => {
    const { node } = served
    const { head, headState } = node.chain
    const again = createStateStore(headState.entries())
    expect(again.root(1)).toEqual(head.header.stateRoot)
  })
})
