import { blake2b } from '@noble/hashes/blake2.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { keccak_256, keccak_512 } from '@noble/hashes/sha3.js'
import type { Host, HostFunctions } from './host.ts'
import { twox } from './twox.ts'

const over =
  (hash: (bytes: Uint8Array) => Uint8Array) =>
  (host: Host, data: bigint): number =>
    host.place(hash(host.bytes(data)))

/** Hash host functions (`ext_hashing_*`): the data's span in, the digest's address out. */
export const HASHING_FUNCTIONS: HostFunctions = {
  ext_hashing_blake2_128_version_1: over((bytes) => blake2b(bytes, { dkLen: 16 })),
  ext_hashing_blake2_256_version_1: over((bytes) => blake2b(bytes, { dkLen: 32 })),
  ext_hashing_twox_64_version_1: over((bytes) => twox(bytes, 8)),
  ext_hashing_twox_128_version_1: over((bytes) => twox(bytes, 16)),
  ext_hashing_twox_256_version_1: over((bytes) => twox(bytes, 32)),
  ext_hashing_keccak_256_version_1: over((bytes) => keccak_256(bytes)),
  ext_hashing_keccak_512_version_1: over((bytes) => keccak_512(bytes)),
  ext_hashing_sha2_256_version_1: over((bytes) => sha256(bytes)),
}
