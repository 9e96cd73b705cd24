import { ApiPromise, WsProvider } from '@polkadot/api'
import type { ProviderInterface } from '@polkadot/rpc-provider/types'
import * as specs from '@substrate/connect-known-chains'
import { serveJsonRpc } from '../../../node/json-rpc-server.ts'
import { parseChainSpec } from '../../../src/ledger/devnet/chain-spec.ts'
import { DevNode, type DevNodeOptions } from '../../../src/ledger/devnet/dev-node.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'
import type { Runtime } from '../../../src/ledger/devnet/runtime.ts'
import { CODE_KEY, createWasmRuntime } from '../../../src/ledger/devnet/wasm-runtime.ts'

/** Rococo Asset Hub, the one real runtime that comes with a package. */
export const ASSET_HUB = parseChainSpec(specs.rococo_v2_2_asset_hub)

let compiled: Runtime | undefined

/** Its runtime; compiled once. */
export function assetHubRuntime(): Runtime {
  const code = ASSET_HUB.genesis.find(([key]) => Buffer.from(key).equals(CODE_KEY))
  compiled ??= createWasmRuntime(code?.[1] ?? new Uint8Array())
  return compiled
}

/** A node of it. */
export function assetHubNode(options: Partial<DevNodeOptions> = {}): DevNode {
  return new DevNode({
    runtime: assetHubRuntime(),
    genesis: ASSET_HUB.genesis,
    name: ASSET_HUB.name,
    properties: ASSET_HUB.properties,
    ...options,
  })
}

export interface Served {
  readonly node: DevNode
  readonly url: string
  readonly api: ApiPromise
  /** Any method, also those that the client does not know. */
  request(method: string, params: readonly unknown[]): Promise<unknown>
  close(): Promise<void>
}

/** A node, served on loopback, with a client. */
export async function serveNode(node: DevNode): Promise<Served> {
  const server = await serveJsonRpc(createRpcServer(node), { port: 0 })
  const provider = new WsProvider(server.url)
  const api = await ApiPromise.create({ provider: provider as ProviderInterface, noInitWarn: true })
  return {
    node,
    url: server.url,
    api,
    request: (method, params) => provider.send(method, [...params]),
    async close() {
      await api.disconnect()
      await server.close()
      node.close()
    },
  }
}
