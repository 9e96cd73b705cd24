import { ScaleReader, ScaleWriter } from './native/scale-bytes.ts'
import { invalidParams } from './rpc-error.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'
import type { RpcParams } from './rpc-params.ts'
import { readAccount } from './rpc-system.ts'
import type { Runtime } from './runtime.ts'

type Argument = 'u32' | 'u8' | 'bytes' | 'account' | 'optional u128'

/** Arguments of the Network pallet's runtime API, by method; all but `proof_of_stake` return encoded bytes. */
const READS: Readonly<Record<string, readonly Argument[]>> = {
  get_subnet_info: ['u32'],
  get_all_subnets_info: [],
  get_subnet_node_info: ['u32', 'u32'],
  get_subnet_nodes_info: ['u32'],
  get_all_subnet_nodes_info: [],
  proof_of_stake: ['u32', 'bytes', 'u8', 'optional u128'],
  get_bootnodes: ['u32'],
  get_coldkey_subnet_nodes_info: ['account'],
  get_coldkey_stakes: ['account'],
  get_delegate_stakes: ['account'],
  get_node_delegate_stakes: ['account'],
  get_overwatch_commits_for_epoch_and_node: ['u32', 'u32'],
  get_overwatch_reveals_for_epoch_and_node: ['u32', 'u32'],
  get_elected_validator_info: ['u32', 'u32'],
  get_validators_and_attestors: ['u32'],
  get_all_overwatch_nodes_info: [],
}

/** A peer id or a multiaddr's bytes. */
const MAX_BYTES = 1024

/** `network_*`: the Network pallet's reads, for runtimes that have them. Bytes are lists of numbers, as serde prints them. */
export function networkMethods(runtime: Runtime): RpcMethods {
  const methods: Record<string, RpcMethod> = {}
  for (const [name, args] of Object.entries(READS)) {
    const entry = `NetworkRuntimeApi_${name}`
    if (!runtime.entries.has(entry)) continue
    methods[`network_${camelCase(name)}`] = ({ node }, params) => {
      const input = new ScaleWriter()
      for (const [at, type] of args.entries()) writeArgument(input, params, at, type)
      const output = node.call(entry, input.finish(), params.hash(args.length, 'at'))
      const reader = new ScaleReader(output)
      if (name === 'proof_of_stake') return reader.small(1, false) === 1
      return [...reader.take(reader.count(1))]
    }
  }
  return methods
}

function writeArgument(writer: ScaleWriter, params: RpcParams, at: number, type: Argument): void {
  const name = `parameter ${at + 1}`
  switch (type) {
    case 'u8':
      return writer.small(params.integer(at, name, 255), 1)
    case 'u32':
      return writer.small(params.integer(at, name, 2 ** 32 - 1), 4)
    case 'account':
      return writer.bytes(readAccount(params, at))
    case 'bytes': {
      const bytes = readBytes(params.raw(at), name)
      writer.compact(bytes.length)
      return writer.bytes(bytes)
    }
    case 'optional u128': {
      const value = params.raw(at)
      if (value === undefined || value === null) return writer.small(0, 1)
      writer.small(1, 1)
      return writer.big(readU128(value, name), 16)
    }
  }
}

/** A list of numbers, 0x-hex, or text whose UTF-8 bytes are meant (a peer id as people write it). */
function readBytes(value: unknown, name: string): Uint8Array {
  if (Array.isArray(value) && value.length <= MAX_BYTES) {
    if (value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255))
      return Uint8Array.from(value)
  }
  if (typeof value === 'string' && value.length <= 2 * MAX_BYTES + 2) {
    if (!value.startsWith('0x')) return new TextEncoder().encode(value)
    if (/^0x([0-9a-fA-F]{2})*$/.test(value)) {
      return Uint8Array.from(value.slice(2).match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
    }
  }
  throw invalidParams(`${name} is no list of bytes, 0x-hex or text up to ${MAX_BYTES} bytes`)
}

function readU128(value: unknown, name: string): bigint {
  if (typeof value === 'number' ? Number.isSafeInteger(value) : typeof value === 'string') {
    if (/^(0x[0-9a-fA-F]{1,32}|\d{1,39})$/.test(String(value))) {
      const big = BigInt(value as string | number)
      if (big < 1n << 128n) return big
    }
  }
  throw invalidParams(`${name} is no u128`)
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase())
}
