import { ChoraleError } from '../../errors.ts'
import type { RpcError } from './json-rpc.ts'

/** Substrate's numbers: the transaction is invalid; somebody's waiting one has its nonce. */
const INVALID = 1010
/** It was in a block or was refused lately. */
export const BANNED = 1012
/** It is in the pool. */
export const ALREADY_IMPORTED = 1013
const PRIORITY_TOO_LOW = 1014

/** "Stale", "outdated": the nonce was used; 1014: somebody's waiting transaction has it. */
export function nonceTaken(error: RpcError): boolean {
  if (error.rpcCode === PRIORITY_TOO_LOW || error.rpcCode === ALREADY_IMPORTED) return true
  return error.rpcCode === INVALID && /stale|outdated/i.test(`${error.message} ${error.data}`)
}

/** The refusal as a person reads it. */
export function refusal(error: RpcError): ChoraleError {
  const sentence = poolSentence(error.rpcCode, error.message, error.data)
  return sentence === undefined
    ? error
    : new ChoraleError('ledger', `${sentence} (${error.message})`, { cause: error })
}

/** What a person should know about the pool's reason for refusing a transaction (1010 and neighbours). */
function poolSentence(rpcCode: number, message: string, data: string): string | undefined {
  const reason = `${message} ${data}`
  if (/payment|balance too low|inability to pay/i.test(reason)) {
    return 'the account has too little to pay the fee; move tokens to it'
  }
  if (/bad ?(signature|proof)/i.test(reason)) {
    return 'the signature was not accepted: is this the right kind of key for this chain?'
  }
  if (/ancient birth|era/i.test(reason)) return 'the transaction came too late; send it again'
  if (/exhaust/i.test(reason)) return 'the block is full; try again'
  if (rpcCode === 1010 && /call/i.test(reason)) return 'the chain does not take this call'
  return undefined
}
