import { getSs58AddressInfo } from '@polkadot-api/substrate-bindings'
import { hexToBytes } from '@noble/hashes/utils.js'
import type { DevNode } from './dev-node.ts'
import { toHex } from '../hex.ts'
import { invalidParams } from './rpc-error.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'
import type { RpcParams } from './rpc-params.ts'

/** What the node says of itself; clients show it. */
const NODE_NAME = 'Chorale dev chain'
const NODE_VERSION = '1.0.0'
/** Ed25519 peer id of nobody: the node has no network. */
const NO_PEER_ID = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'

/** Next nonce of an account: the state's, and on from there what waits in the pool. */
const accountNextIndex: RpcMethod = ({ node }, params) => {
  const account = readAccount(params, 0)
  let nonce = accountNonce(node, account)
  while (node.pool.provides(nonceTag(account, nonce))) nonce++
  return nonce
}

const dryRun: RpcMethod = ({ node }, params) =>
  toHex(node.dryRun(params.bytes(0, 'extrinsic'), params.hash(1)))

/** `system_*`: the node and its accounts. */
export const SYSTEM_METHODS: RpcMethods = {
  system_name: () => NODE_NAME,
  system_version: () => NODE_VERSION,
  system_chain: ({ node }) => node.name,
  system_chainType: () => 'Development',
  system_properties: ({ node }) => node.properties,
  system_health: () => ({ peers: 0, isSyncing: false, shouldHavePeers: false }),
  system_peers: () => [],
  system_nodeRoles: () => ['Authority'],
  system_localPeerId: () => NO_PEER_ID,
  system_localListenAddresses: () => [],
  system_syncState: ({ node }) => {
    const { number } = node.chain.head.header
    return { startingBlock: 0, currentBlock: number, highestBlock: number }
  },
  system_accountNextIndex: accountNextIndex,
  account_nextIndex: accountNextIndex,
  system_dryRun: dryRun,
  system_dryRunAt: dryRun,
  rpc_methods: ({ methods }) => ({ methods }),
}

/** An account in hex (20 or 32 bytes) or SS58. @throws RpcError */
export function readAccount(params: RpcParams, at: number): Uint8Array {
  const text = params.text(at, 'account')
  if (/^0x([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/.test(text)) return hexToBytes(text.slice(2))
  const info = text.length > 100 ? { isValid: false as const } : getSs58AddressInfo(text)
  if (!info.isValid) throw invalidParams(`account is no address: ${text.slice(0, 60)}`)
  return info.publicKey
}

function accountNonce(node: DevNode, account: Uint8Array): number {
  const bytes = node.call('AccountNonceApi_account_nonce', account)
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0)
}

/** What the nonce check of Substrate's runtimes says an extrinsic provides. */
function nonceTag(account: Uint8Array, nonce: number): Uint8Array {
  const tag = new Uint8Array(account.length + 4)
  tag.set(account)
  new DataView(tag.buffer).setUint32(account.length, nonce, true)
  return tag
}
