import { existsSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { parseChainSpec } from '../../../../src/ledger/devnet/chain-spec.ts'
import { DEV_ACCOUNTS, patchEthereumGenesis } from '../../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode } from '../../../../src/ledger/devnet/dev-node.ts'
import { createNativeRuntime } from '../../../../src/ledger/devnet/native/runtime.ts'
import { createStateStore } from '../../../../src/ledger/devnet/storage.ts'
import { CODE_KEY, createWasmRuntime } from '../../../../src/ledger/devnet/wasm-runtime.ts'
import { serveNode, type Served } from '../asset-hub.ts'
import { moneyScript } from './money-script.ts'

const SPEC = process.env['CHORALE_HYPERTENSOR_SPEC'] ?? ''
const isThere = existsSync(SPEC)
if (!isThere) {
  process.stdout.write(
    "skipped: equality with Hypertensor's own runtime; CHORALE_HYPERTENSOR_SPEC names no raw chain spec (hoskinsonSpecRaw.json)\n",
  )
}

function nativeNode(): DevNode {
  const { runtime, genesis, properties } = createNativeRuntime({
    endowed: Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, 10n ** 24n])),
    sudo: DEV_ACCOUNTS[0]?.address ?? '',
  })
  return new DevNode({ runtime, genesis, name: 'native', properties })
}

function hypertensorNode(): DevNode {
  const { genesis, name, properties } = parseChainSpec(readFileSync(SPEC, 'utf8'))
  const patched = patchEthereumGenesis(genesis)
  const code = createStateStore(patched).get(CODE_KEY) ?? new Uint8Array()
  return new DevNode({
    runtime: createWasmRuntime(code),
    genesis: patched,
    name,
    properties,
  })
}

describe('native runtime behind a dev node, as @polkadot/api sees it', () => {
  let served: Served
  let lines: string[]

  beforeAll(async () => {
    // @polkadot/api prints every refusal that the script provokes.
    vi.spyOn(console, 'error').mockImplementation(() => undefined)
    served = await serveNode(nativeNode())
    lines = await moneyScript(served.api)
  }, 60_000)
  afterAll(async () => {
    await served.close()
    vi.restoreAllMocks()
  })

  it('every call of the money script is included or refused as its name says', () => {
    const find = (name: string): string => lines.find((line) => line.startsWith(`${name}: `)) ?? ''
    expect(find('transfer')).toContain('balances.Transfer')
    expect(find('transfer')).toContain('system.ExtrinsicSuccess')
    expect(find('below the existential deposit')).toContain('{"token":"BelowMinimum"}')
    expect(find('more than it has')).toContain('{"token":"FundsUnavailable"}')
    expect(find('all, dead')).toContain('system.KilledAccount')
    expect(find('sudo without the key')).toContain('{"module":{"index":6,"error":"0x00000000"}}')
    expect(find('root only')).toContain('{"badOrigin":null}')
    expect(find('time from sudo')).toContain('dispatch is mandatory')
    expect(find('stale')).toContain('1010: Invalid Transaction: Transaction is outdated')
    expect(find('wrong genesis')).toContain('1010: Invalid Transaction: Transaction has a bad signature')
    expect(find('a stranger')).toContain('1010: Invalid Transaction: Inability to pay some fees')
  })

  it('serves constants, runtime APIs and entries by their types', async () => {
    const { api } = served
    expect(api.consts['system']?.['ss58Prefix']?.toString()).toBe('42')
    expect(api.consts['network']?.['epochLength']?.toString()).toBe('20')
    const nonce = await api.call['accountNonceApi']?.['accountNonce']?.(DEV_ACCOUNTS[0]?.address)
    expect(nonce?.toJSON()).toBeGreaterThan(20)
    const proof = await api.call['networkRuntimeApi']?.['proofOfStake']?.(1, '0x31', 0, null)
    expect(proof?.toJSON()).toBe(false)
    const accounts = await api.query['system']?.['account']?.entries()
    expect(accounts?.length).toBeGreaterThan(DEV_ACCOUNTS.length - 2)
    const info = await api.tx['balances']
      ?.['transferKeepAlive']?.(DEV_ACCOUNTS[1]?.address, 1)
      .paymentInfo(DEV_ACCOUNTS[0]?.address ?? '')
    expect(info?.partialFee.toBigInt()).toBe(273_812_115n)
  })

  it.skipIf(!isThere)(
    "gives the same events, errors and refusals as Hypertensor's own runtime, line by line",
    async () => {
      const real = await serveNode(hypertensorNode())
      try {
        expect(lines).toEqual(await moneyScript(real.api))
      } finally {
        await real.close()
      }
    },
    60_000,
  )
})
