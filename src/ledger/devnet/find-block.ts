import type { Block, Chain } from './chain.ts'
import { stateDiscarded, unknownBlock } from './rpc-error.ts'
import type { StateStore } from './storage.ts'

/** A block by its hash, the best one without. @throws RpcError when unknown. */
export function findBlock(chain: Chain, hash?: string): Block {
  if (hash === undefined) return chain.head
  const block = chain.block(hash)
  if (block === undefined) throw unknownBlock(hash)
  return block
}

/** The state after a block, the best one without a hash. @throws RpcError when unknown or no longer kept. */
export function findState(chain: Chain, hash?: string): StateStore {
  const block = findBlock(chain, hash)
  const state = chain.state(block.hash)
  if (state === undefined) throw stateDiscarded(block.hash)
  return state
}
