import type { DevNode } from './dev-node.ts'
import { ScaleReader } from './native/scale-bytes.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'
import type { RpcParams } from './rpc-params.ts'

const CLASSES = ['normal', 'operational', 'mandatory']
/** Bytes of a `RuntimeDispatchInfo` whose weight is one u64: older runtimes. */
const OLD_INFO_BYTES = 25

const queryInfo: RpcMethod = ({ node }, params) => {
  const bytes = ask(node, 'TransactionPaymentApi_query_info', params)
  const reader = new ScaleReader(bytes)
  const weight =
    bytes.length === OLD_INFO_BYTES
      ? Number(reader.big(8, false))
      : { ref_time: Number(reader.compact()), proof_size: Number(reader.compact()) }
  const kind = CLASSES[reader.small(1, false)] ?? 'normal'
  return { weight, class: kind, partialFee: String(reader.big(16, false)) }
}

const queryFeeDetails: RpcMethod = ({ node }, params) => {
  const reader = new ScaleReader(ask(node, 'TransactionPaymentApi_query_fee_details', params))
  if (reader.small(1, false) === 0) return { inclusionFee: null }
  const amount = () => `0x${reader.big(16, false).toString(16)}`
  return { inclusionFee: { baseFee: amount(), lenFee: amount(), adjustedWeightFee: amount() } }
}

/** `payment_*`: what an extrinsic would cost. */
export const PAYMENT_METHODS: RpcMethods = {
  payment_queryInfo: queryInfo,
  payment_queryFeeDetails: queryFeeDetails,
}

function ask(node: DevNode, entry: string, params: RpcParams): Uint8Array {
  const extrinsic = params.bytes(0, 'extrinsic')
  const input = new Uint8Array(extrinsic.length + 4)
  input.set(extrinsic)
  new DataView(input.buffer).setUint32(extrinsic.length, extrinsic.length, true)
  return node.call(entry, input, params.hash(1))
}
