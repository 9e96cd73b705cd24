import { toHex } from '../hex.ts'
import { subscriptionsOf, unsubscribe } from './rpc-chain.ts'
import { RpcError } from './rpc-error.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'

/** Extrinsics removed by one request. */
const MAX_REMOVED = 1000

const submitExtrinsic: RpcMethod = ({ node }, params) => node.submit(params.bytes(0, 'extrinsic')).hash

const submitAndWatchExtrinsic: RpcMethod = (context, params) => {
  const extrinsic = params.bytes(0, 'extrinsic')
  return subscriptionsOf(context).open(
    'author_extrinsicUpdate',
    (push) => context.node.submit(extrinsic, push).unwatch,
  )
}

const removeExtrinsic: RpcMethod = ({ node }, params) => {
  const hashes = params.list(0, 'extrinsics', MAX_REMOVED).map((entry) => {
    const { hash } = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<string, unknown>
    return typeof hash === 'string' ? hash.toLowerCase() : ''
  })
  return hashes.flatMap((hash) => node.forget(hash))
}

const noKeystore: RpcMethod = () => {
  throw new RpcError(-32601, 'RPC call is unsafe to be called externally: this node has no keystore')
}

/** `author_*`: extrinsics on their way into blocks. */
export const AUTHOR_METHODS: RpcMethods = {
  author_submitExtrinsic: submitExtrinsic,
  author_submitAndWatchExtrinsic: submitAndWatchExtrinsic,
  author_unwatchExtrinsic: unsubscribe,
  author_pendingExtrinsics: ({ node }) => node.pool.all().map(({ bytes }) => toHex(bytes)),
  author_removeExtrinsic: removeExtrinsic,
  author_hasKey: () => false,
  author_hasSessionKeys: () => false,
  author_insertKey: noKeystore,
  author_rotateKeys: noKeystore,
}
