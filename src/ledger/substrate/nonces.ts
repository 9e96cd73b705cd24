import { ChoraleError } from '../../errors.ts'
import { fromHex, toHex } from '../hex.ts'
import type { Node } from './reconnecting.ts'
import type { RuntimeCodec } from './runtime-codec.ts'

/** The nonce of an account's next call, those in the node's pool counted. @throws `ledger` when the node sends no count. */
export async function nextNonce(
  node: Node,
  address: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  const next = await node.ask('system_accountNextIndex', [address], signal)
  if (typeof next !== 'number' || !Number.isSafeInteger(next) || next < 0) {
    throw new ChoraleError('ledger', `the node numbers the next transaction ${String(next)}`)
  }
  return next
}

/** Calls of an account that blocks up to `blockHash` hold; the pool's are not counted. @throws `ledger` for no hex. */
export async function nonceAtBlock(
  node: Node,
  codec: RuntimeCodec,
  address: string,
  blockHash: string,
): Promise<number> {
  const account = codec.accounts.decode(address, codec.accountBytes) ?? new Uint8Array()
  const nonce = await node.ask('state_call', ['AccountNonceApi_account_nonce', toHex(account), blockHash])
  const [first = 0, second = 0, third = 0, fourth = 0] = fromHex(nonce, 'nonce')
  return first + second * 2 ** 8 + third * 2 ** 16 + fourth * 2 ** 24
}
