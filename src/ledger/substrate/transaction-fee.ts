import { ChoraleError } from '../../errors.ts'
import { fromHex, toHex } from '../hex.ts'
import type { Node } from './reconnecting.ts'

/**
 * What a chain would take for a transaction now, in planck.
 * @param extrinsic its bytes, with a signature of the right length in place of a true one.
 * @throws `ledger` when the node's answer is no `RuntimeDispatchInfo`, and as `node.ask`.
 */
export async function transactionFee(node: Node, extrinsic: Uint8Array): Promise<bigint> {
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, extrinsic.length, true)
  const input = `${toHex(extrinsic)}${toHex(length).slice(2)}`
  const info = fromHex(await node.ask('state_call', ['TransactionPaymentApi_query_info', input]), 'fee')
  // RuntimeDispatchInfo { weight, class, partial_fee: u128 }: the fee is the last 16 bytes.
  if (info.length < 17) throw new ChoraleError('ledger', `the node's fee has ${info.length} bytes`)
  return info.slice(-16).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
}
