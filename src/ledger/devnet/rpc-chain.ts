import type { Block } from './chain.ts'
import type { DevNode } from './dev-node.ts'
import { headerJson } from './header.ts'
import { toHex } from '../hex.ts'
import { RpcError } from './rpc-error.ts'
import type { RpcContext, RpcMethod, RpcMethods, Subscriptions } from './rpc-method.ts'
import { readInteger } from './rpc-params.ts'

/** Block numbers asked for at once. */
const MAX_NUMBERS = 1000
const MAX_NUMBER = 2 ** 32 - 1

const getHeader: RpcMethod = ({ node }, params) => {
  const hash = params.hash(0)
  const block = hash === undefined ? node.chain.head : node.chain.block(hash)
  return block && headerJson(block.header)
}

const getBlock: RpcMethod = ({ node }, params) => {
  const hash = params.hash(0)
  const block = hash === undefined ? node.chain.head : node.chain.block(hash)
  if (block === undefined) return null
  return {
    block: { header: headerJson(block.header), extrinsics: block.extrinsics.map(toHex) },
    justifications: null,
  }
}

const getBlockHash: RpcMethod = ({ node }, params) => {
  const asked = params.raw(0)
  if (asked === undefined || asked === null) return node.chain.head.hash
  const hashOf = (value: unknown) => node.chain.hashAt(readInteger(value, 'number', MAX_NUMBER)) ?? null
  return Array.isArray(asked) ? params.list(0, 'numbers', MAX_NUMBERS).map(hashOf) : hashOf(asked)
}

const getFinalizedHead: RpcMethod = ({ node }) => node.chain.finalized.hash

const subscribeNewHeads: RpcMethod = (context) =>
  subscriptionsOf(context).open('chain_newHead', (push) => {
    push(headerJson(context.node.chain.head.header))
    return context.node.listen({
      onHead: ({ enacted }) => pushHeaders(enacted, push),
    })
  })

const subscribeAllHeads: RpcMethod = (context) =>
  subscriptionsOf(context).open('chain_allHead', (push) => {
    push(headerJson(context.node.chain.head.header))
    return context.node.listen({ onHead: ({ enacted }) => pushHeaders(enacted, push) })
  })

const subscribeFinalizedHeads: RpcMethod = (context) =>
  subscriptionsOf(context).open('chain_finalizedHead', (push) => {
    push(headerJson(context.node.chain.finalized.header))
    let last = context.node.chain.finalized.header.number
    return context.node.listen({
      // Blocks that became final just before are on their way still: each number is told once.
      onFinalized: (blocks) => {
        pushHeaders(
          blocks.filter(({ header }) => header.number > last),
          push,
        )
        last = Math.max(last, blocks.at(-1)?.header.number ?? 0)
      },
    })
  })

/** Ends the subscription whose id is the first parameter. */
export const unsubscribe: RpcMethod = (context, params) => subscriptionsOf(context).close(params.raw(0))

/** `chain_*`: headers, blocks and heads. */
export const CHAIN_METHODS: RpcMethods = {
  chain_getHeader: getHeader,
  chain_getBlock: getBlock,
  chain_getBlockHash: getBlockHash,
  chain_getHead: getBlockHash,
  chain_getFinalizedHead: getFinalizedHead,
  chain_getFinalisedHead: getFinalizedHead,
  chain_subscribeNewHeads: subscribeNewHeads,
  chain_subscribeNewHead: subscribeNewHeads,
  chain_unsubscribeNewHeads: unsubscribe,
  chain_unsubscribeNewHead: unsubscribe,
  chain_subscribeAllHeads: subscribeAllHeads,
  chain_unsubscribeAllHeads: unsubscribe,
  chain_subscribeFinalizedHeads: subscribeFinalizedHeads,
  chain_subscribeFinalisedHeads: subscribeFinalizedHeads,
  chain_unsubscribeFinalizedHeads: unsubscribe,
  chain_unsubscribeFinalisedHeads: unsubscribe,
  chainSpec_v1_chainName: ({ node }) => node.name,
  chainSpec_v1_genesisHash: ({ node }) => node.chain.genesis.hash,
  chainSpec_v1_properties: ({ node }) => node.properties,
}

/** The connection's subscriptions. @throws RpcError where it cannot push. */
export function subscriptionsOf({ subscriptions }: RpcContext): Subscriptions {
  if (subscriptions === undefined) {
    throw new RpcError(-32000, 'Subscriptions need a WebSocket connection')
  }
  return subscriptions
}

/** The hash asked for, or the best block's. */
export function hashOr(node: DevNode, hash: string | undefined): string {
  return node.block(hash).hash
}

function pushHeaders(blocks: readonly Block[], push: (result: unknown) => void): void {
  for (const block of blocks) push(headerJson(block.header))
}
