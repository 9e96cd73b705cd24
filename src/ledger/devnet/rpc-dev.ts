import type { BlockMode } from './block-timer.ts'
import { invalidParams } from './rpc-error.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'
import { readHex, readInteger } from './rpc-params.ts'

/** Entries written by one request. */
const MAX_PAIRS = 10_000
const MAX_COUNT = 1000
const MAX_DEPTH = 256
const MAX_MS = 24 * 3600 * 1000
/** Milliseconds since the epoch that a timestamp may name: to the year 2255, which all clients can show. */
const MAX_TIME = 9_000_000_000_000

/** `dev_newBlock {count}`: makes blocks now. @returns the last one's hash */
const newBlock: RpcMethod = ({ node }, params) => {
  const { count } = params.options(0, 'options')
  return node.build(readInteger(count ?? 1, 'count', MAX_COUNT)).hash
}

/** `dev_setStorage [[key, value or null], …]`: writes to the best block's state. @returns that block's hash */
const setStorage: RpcMethod = ({ node }, params) => {
  const pairs = params.list(0, 'pairs', MAX_PAIRS).map((pair, at) => {
    if (!Array.isArray(pair) || pair.length !== 2) throw invalidParams(`pairs[${at}] is no [key, value]`)
    const [key, value] = pair as readonly unknown[]
    return [
      readHex(key, `pairs[${at}] key`),
      value === null ? undefined : readHex(value, `pairs[${at}] value`),
    ] as const
  })
  node.setStorage(pairs)
  return node.chain.head.hash
}

/** `dev_timeTravel time`: milliseconds since the epoch, or a date in text. @returns the chain's clock */
const timeTravel: RpcMethod = ({ node }, params) => {
  const value = params.raw(0)
  const time = typeof value === 'string' && !/^\d+$/.test(value) ? Date.parse(value) : value
  return node.timeTravel(readInteger(time, 'time', MAX_TIME))
}

/** `dev_setBlockBuildMode mode`: `Instant`, `Manual`, or milliseconds between blocks. */
const setBlockBuildMode: RpcMethod = ({ node }, params) => {
  node.mode = readMode(params.raw(0))
}

/** `dev_reorg {depth, transactions}`: replaces the last blocks by a longer fork. @returns the new head's hash */
const reorg: RpcMethod = ({ node }, params) => {
  const { depth, transactions = 'include' } = params.options(0, 'options')
  if (transactions !== 'include' && transactions !== 'pool' && transactions !== 'drop') {
    throw invalidParams('transactions is none of include, pool, drop')
  }
  return node.reorg(readInteger(depth, 'depth', MAX_DEPTH), transactions).hash
}

/** `dev_setFinalityLag blocks`: how far finality stays behind; 0 makes everything final at once. */
const setFinalityLag: RpcMethod = ({ node }, params) => {
  node.finalityLag = params.integer(0, 'blocks', MAX_DEPTH)
}

/** `dev_*`: what a test may do to the chain. Any client may call them. */
export const DEV_METHODS: RpcMethods = {
  dev_newBlock: newBlock,
  dev_setStorage: setStorage,
  dev_timeTravel: timeTravel,
  dev_setBlockBuildMode: setBlockBuildMode,
  dev_reorg: reorg,
  dev_setFinalityLag: setFinalityLag,
}

function readMode(value: unknown): BlockMode {
  const name = typeof value === 'string' ? value.toLowerCase() : value
  if (name === 'instant' || name === 'batch') return 'instant'
  if (name === 'manual') return 'manual'
  const everyMs = readInteger(value, 'mode (Instant, Manual or milliseconds)', MAX_MS)
  if (everyMs === 0) throw invalidParams('mode is 0 ms; use Instant')
  return { everyMs }
}
