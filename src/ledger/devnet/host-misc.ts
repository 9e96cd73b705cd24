import { toHex } from '../hex.ts'
import type { Host, HostFunctions } from './host.ts'
import { ScaleWriter } from './native/scale-bytes.ts'

/** `u64::MAX`: no proof is recorded. */
const NO_PROOF = 0xffff_ffff_ffff_ffffn
/** Runtimes format a message only when somebody wants its level: errors, for panics. */
const LOG_LEVEL_ERROR = 1
/** Characters of a runtime's message that are kept. */
const MAX_MESSAGE = 2000

/** Memory, logging, printing and what else is neither storage nor cryptography. */
export const MISC_FUNCTIONS: HostFunctions = {
  ext_allocator_malloc_version_1: (host, size: number) => host.allocator.allocate(size >>> 0),
  ext_allocator_free_version_1: (host, address: number) => host.allocator.free(address >>> 0),

  ext_logging_log_version_1: (host, level: number, target: bigint, message: bigint) =>
    host.log(level, text(host, target), text(host, message)),
  ext_logging_max_level_version_1: () => LOG_LEVEL_ERROR,
  ext_misc_print_num_version_1: (host, value: bigint) =>
    host.log(3, 'print', String(BigInt.asUintN(64, value))),
  ext_misc_print_utf8_version_1: (host, value: bigint) => host.log(3, 'print', text(host, value)),
  ext_misc_print_hex_version_1: (host, value: bigint) =>
    host.log(3, 'print', toHex(host.bytes(value).subarray(0, MAX_MESSAGE))),
  ext_misc_runtime_version_version_1: (host, code: bigint) => {
    const version = host.versionOf(host.bytes(code).slice())
    const writer = new ScaleWriter()
    writer.small(1, 1)
    writer.compact(version.length)
    writer.bytes(version)
    return host.give(writer.finish())
  },
  ext_panic_handler_abort_on_panic_version_1: (host, message: bigint) => {
    host.log(1, 'panic', text(host, message))
    throw new WebAssembly.RuntimeError('the runtime panicked')
  },

  ext_storage_proof_size_storage_proof_size_version_1: () => NO_PROOF,
  ext_wasm_tracing_enabled_version_1: () => 0,
  ext_wasm_tracing_enter_span_version_1: () => 0n,
  ext_wasm_tracing_exit_version_1: () => undefined,

  // Written for off-chain readers, which a dev chain has none of; blocks do not depend on them.
  ext_offchain_index_set_version_1: () => undefined,
  ext_offchain_index_clear_version_1: () => undefined,
  ext_transaction_index_index_version_1: () => undefined,
  ext_transaction_index_renew_version_1: () => undefined,
  ext_offchain_is_validator_version_1: () => 0,
}

function text(host: Host, span: bigint): string {
  return new TextDecoder().decode(host.bytes(span).slice(0, MAX_MESSAGE))
}
