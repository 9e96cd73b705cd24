import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cryptoWaitReady, sr25519PairFromSeed, sr25519Sign } from '@polkadot/util-crypto'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { parseChainSpec } from '../../../src/ledger/devnet/chain-spec.ts'
import { recoverSecp256k1 } from '../../../src/ledger/devnet/host-crypto.ts'
import { unpackCode } from '../../../src/ledger/devnet/runtime-code.ts'
import { decodeRuntimeVersion } from '../../../src/ledger/devnet/runtime-version.ts'
import { verifySr25519 } from '../../../src/ledger/devnet/sr25519.ts'
import { createStateStore } from '../../../src/ledger/devnet/storage.ts'
import { WasmAllocator } from '../../../src/ledger/devnet/wasm-allocator.ts'
import { CODE_KEY, createWasmRuntime } from '../../../src/ledger/devnet/wasm-runtime.ts'
import { ASSET_HUB, assetHubRuntime } from './asset-hub.ts'

const state = createStateStore(ASSET_HUB.genesis)
const code = state.get(CODE_KEY)!

describe('createWasmRuntime', () => {
  it('runs an entry, time after time, with the same answer', () => {
    const runtime = assetHubRuntime()
    const versions = [1, 2, 3].map(() =>
      decodeRuntimeVersion(runtime.call('Core_version', new Uint8Array(), state.overlay())),
    )
    expect(versions[0]).toMatchObject({ specName: 'statemine', specVersion: 900, stateVersion: 0 })
    expect(versions[1]).toEqual(versions[0])
    expect(versions[2]).toEqual(versions[0])
  })

  it('says what a panic says, and runs on after it', () => {
    const runtime = assetHubRuntime()
    expect(() => runtime.call('BlockBuilder_apply_extrinsic', Uint8Array.of(0xff), state.overlay())).toThrow(
      /BlockBuilder_apply_extrinsic: panicked at/,
    )
    expect(runtime.call('Core_version', new Uint8Array(), state.overlay()).length).toBeGreaterThan(10)
  })

  it('has no entry that it does not have', () => {
    expect(() => assetHubRuntime().call('Core_nothing', new Uint8Array(), state.overlay())).toThrow(
      'no entry',
    )
  })

  it('runs the code that the state has, not the one it began with', () => {
    const runtime = assetHubRuntime()
    const overlay = state.overlay()
    overlay.set(CODE_KEY, Uint8Array.of(1, 2, 3))
    expect(() => runtime.call('Core_version', new Uint8Array(), overlay)).toThrow(
      expect.objectContaining({ code: 'bad_file', field: ':code' }),
    )
  })

  it('refuses code that is no wasm, no zstd, or no runtime', () => {
    const wasm = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)
    for (const bad of [
      new Uint8Array(),
      Uint8Array.of(1, 2, 3),
      wasm,
      code.slice(0, 5000),
      code.slice(0, 9),
    ]) {
      expect(() => createWasmRuntime(bad)).toThrow(expect.objectContaining({ code: 'bad_file' }))
    }
  })
})

describe('unpackCode', () => {
  it('ends in an error, not in a crash, on damaged archives', () => {
    fc.assert(
      fc.property(fc.nat(3000), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = code.slice(0, 4000)
        damaged[8 + at]! ^= flip
        try {
          unpackCode(damaged)
        } catch (error) {
          expect(error).toMatchObject({ name: 'ChoraleError' })
        }
      }),
      { numRuns: 100 },
    )
  })

  it('stops an archive that unpacks to more than a runtime may have', () => {
    // Blocks of one repeated byte: 128 KiB out of four bytes each.
    const blocks = Array.from({ length: 500 }, (_, at) => {
      const header = (2 ** 17 * 8 + 2 + (at === 499 ? 1 : 0)) >>> 0
      return [header & 255, (header >> 8) & 255, header >> 16, 0]
    })
    const bomb = Uint8Array.from([
      0x52,
      0xbc,
      0x53,
      0x76,
      0x46,
      0xdb,
      0x8e,
      0x05,
      0x28,
      0xb5,
      0x2f,
      0xfd,
      0x00,
      0x58,
      ...blocks.flat(),
    ])
    expect(() => unpackCode(bomb)).toThrow(expect.objectContaining({ code: 'limit' }))
  })
})

describe('WasmAllocator', () => {
  it('hands out blocks that never overlap, whatever is freed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(5000), fc.constant('free' as const)), { maxLength: 200 }),
        (steps) => {
          const memory = new WebAssembly.Memory({ initial: 1, maximum: 64 })
          const allocator = new WasmAllocator(memory, 1001, 64)
          const held: [number, number][] = []
          for (const step of steps) {
            if (step === 'free') {
              const gone = held.splice(held.length >> 1, 1)[0]
              if (gone !== undefined) allocator.free(gone[0])
              continue
            }
            const start = allocator.allocate(step)
            expect(start % 8).toBe(0)
            expect(start).toBeGreaterThanOrEqual(1001)
            expect(start + step).toBeLessThanOrEqual(memory.buffer.byteLength)
            for (const [other, size] of held)
              expect(start + step <= other - 8 || start - 8 >= other + size).toBe(true)
            held.push([start, step])
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('uses freed blocks again and keeps to its limit', () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 64 })
    const allocator = new WasmAllocator(memory, 0, 3)
    const first = allocator.allocate(100)
    allocator.free(first)
    expect(allocator.allocate(128)).toBe(first)
    expect(() => allocator.free(first + 8)).toThrow('not in use')
    expect(() => allocator.free(0)).toThrow('not in use')
    expect(() => {
      for (;;) allocator.allocate(10_000)
    }).toThrow(expect.objectContaining({ code: 'limit' }))
    expect(memory.buffer.byteLength).toBeLessThanOrEqual(3 * 65_536)
    expect(() => allocator.allocate(2 ** 25 + 1)).toThrow(expect.objectContaining({ code: 'limit' }))
  })
})

describe('verifySr25519', () => {
  it('accepts what another implementation signs, and nothing that differs in a bit', async () => {
    await cryptoWaitReady()
    for (let at = 0; at < 6; at++) {
      const pair = sr25519PairFromSeed(new Uint8Array(32).fill(at + 1))
      const message = new Uint8Array(at * 61).fill(at)
      const signature = sr25519Sign(message, pair)
      expect(verifySr25519(signature, message, pair.publicKey)).toBe(true)
      for (const bit of [0, 100, 255, 256, 300, 511]) {
        const bad = signature.slice()
        bad[bit >> 3]! ^= 1 << (bit & 7)
        expect(verifySr25519(bad, message, pair.publicKey)).toBe(false)
      }
      expect(verifySr25519(signature, Uint8Array.of(...message, 0), pair.publicKey)).toBe(false)
      expect(verifySr25519(signature, message, new Uint8Array(32))).toBe(false)
    }
  })
})

describe('recoverSecp256k1', () => {
  it('finds the key that signed, for v as Substrate and as Ethereum write it', () => {
    const secret = new Uint8Array(32).fill(7)
    const hash = new Uint8Array(32).fill(9)
    const [v, ...rs] = secp256k1.sign(hash, secret, { prehash: false, format: 'recovered' })
    const key = secp256k1.getPublicKey(secret, true)
    expect(recoverSecp256k1(Uint8Array.of(...rs, v!), hash, true)).toEqual(key)
    expect(recoverSecp256k1(Uint8Array.of(...rs, v! + 27), hash, true)).toEqual(key)
    expect(recoverSecp256k1(Uint8Array.of(...rs, v!), hash, false)).toHaveLength(64)
    expect(recoverSecp256k1(Uint8Array.of(...rs, 9), hash, true)).toBe(1)
    expect(recoverSecp256k1(new Uint8Array(65), hash, true)).toBe(0)
  })
})

describe('parseChainSpec', () => {
  it('names what it does not like', () => {
    const wrong: [unknown, string][] = [
      ['{', 'no JSON'],
      [{}, 'genesis.raw'],
      [{ genesis: { raw: { top: [] } } }, 'is no object'],
      [{ genesis: { raw: { top: { '0x0': '0x00' } } } }, 'key'],
      [{ genesis: { raw: { top: { '0x00': 5 } } } }, '0x00'],
      [{ genesis: { raw: { top: {}, childrenDefault: { '0x00': {} } } } }, 'child storage'],
    ]
    for (const [spec, message] of wrong) {
      expect(() => parseChainSpec(typeof spec === 'string' ? spec : JSON.stringify(spec))).toThrow(message)
    }
  })

  it('ends in an error or a spec on any JSON', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), (text) => {
        for (const spec of [text, `{"genesis":{"raw":${text}}}`, `{"genesis":{"raw":{"top":${text}}}}`]) {
          try {
            parseChainSpec(spec)
          } catch (error) {
            expect(error).toMatchObject({ name: 'ChoraleError' })
          }
        }
      }),
      { numRuns: 5000 },
    )
  })
})
