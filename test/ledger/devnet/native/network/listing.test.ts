import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import { createNativeRuntime } from '../../../../../src/ledger/devnet/native/runtime.ts'

const ROOT = join(import.meta.dirname, '../../../../..')
const VECTOR = join(ROOT, 'test/vectors/hypertensor-network-interface.txt')
const SHARED = join(ROOT, '../shared/reference/hypertensor-network-interface.txt')

/** Lines of each `##` section. The listing prints types by their lookup names; here they have the last part of it. */
function sections(path: string): Map<string, string[]> {
  const found = new Map<string, string[]>()
  let current: string[] = []
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line.startsWith('## ')) {
      current = []
      found.set(line.slice(3).split(' ')[0] ?? '', current)
    } else if (line.trim() !== '' && !line.startsWith('# ')) current.push(line)
  }
  return found
}

const plain = (text: string): string =>
  text
    .replaceAll(
      /(FpAccount|PalletNetwork|PrimitiveTypes|SpWeightsWeightV2|SpCore|FrameSupport)(?=[A-Z])/g,
      '',
    )
    .replaceAll(/,(?=\S)/g, ', ')

const pallet = networkPallet({ epochBlocks: 20 })
const fields = (record: Readonly<Record<string, string>>): string =>
  Object.entries(record)
    .map(([name, type]) => `${name}: ${type}`)
    .join(', ')

describe.each([
  ['the copy', VECTOR],
  ['the reference', SHARED],
])('networkPallet against the listing, %s', (name, path) => {
  const missing = !existsSync(path)
  if (missing) console.log(`listing: ${name} is not here, its comparison is skipped`)
  const listing = missing ? new Map<string, string[]>() : sections(path)
  const lines = (section: string): string[] => (listing.get(section) ?? []).map(plain)

  it.skipIf(missing)('declares all 165 calls with their arguments and indexes', () => {
    const calls = pallet.calls.map(({ index, name, args }) => `${index} ${name}(${fields(args)})`)
    expect(calls).toEqual(lines('calls'))
    expect(calls).toHaveLength(165)
  })

  it.skipIf(missing)('declares every storage item with hashers, types and whether it is optional', () => {
    const items = pallet.storage.map(({ name, keys, type, ...rest }) => {
      const types = keys.map((key) => key.type).join(', ')
      const map = `map ${keys.map((key) => key.hasher).join('+')} ${keys.length > 1 ? `(${types})` : types} => `
      return `${name}: ${keys.length > 0 ? map : ''}${type} [${'default' in rest ? 'Default' : 'Optional'}]`
    })
    expect(items).toEqual(lines('storage'))
    expect(items).toHaveLength(207)
  })

  it.skipIf(missing)('declares all 170 events with their fields and indexes', () => {
    const events = pallet.events.map(({ index, name, fields: of }) => {
      const text = Array.isArray(of)
        ? (of as readonly string[]).map((type) => `_: ${type}`).join(', ')
        : fields(of as Record<string, string>)
      return `${index} ${name} { ${text} }`
    })
    expect(events).toEqual(lines('events'))
    expect(events).toHaveLength(170)
  })

  it.skipIf(missing)('declares all 165 errors in order', () => {
    const errors = pallet.errors.map((error, index) => `${index} ${error}`)
    expect(errors.join(', ')).toBe(lines('errors').join(' '))
    expect(errors).toHaveLength(165)
  })

  it.skipIf(missing)('declares the constants of an epoch of 20 blocks', () => {
    const listed = (listing.get('constants') ?? []).map((line) => {
      const [, constant, type, value] = /^(\w+): (\S+) = (.*)$/.exec(line) ?? []
      return { constant, type: plain(type ?? ''), value: value ?? '' }
    })
    expect(pallet.constants.map(({ name, type }) => ({ name, type }))).toEqual(
      listed.map(({ constant, type }) => ({ name: constant, type })),
    )
    for (const { constant, value } of listed) {
      const own = pallet.constants.find(({ name }) => name === constant)?.value
      if (typeof own === 'number' || typeof own === 'bigint')
        expect(`${constant} ${own}`).toBe(`${constant} ${value.replaceAll(',', '')}`)
      else if (typeof own === 'string') expect(own).toBe(value.toLowerCase())
      else if (own instanceof Uint8Array) expect(new TextDecoder().decode(own)).toBe(value)
    }
  })

  it.skipIf(missing)('declares every type of the listing', () => {
    for (const line of lines('types')) {
      const [, path, body] = /^([\w:]+): (.*)$/.exec(line) ?? []
      const name = path?.split('::').at(-1) ?? ''
      const own = pallet.types[name]
      expect(own?.path, name).toBe(path)
      if (own === undefined) continue
      const text =
        'fields' in own
          ? `{ ${fields(own.fields as Record<string, string>)} }`
          : Object.entries(own.variants)
              .map(([variant, of]) =>
                Object.keys(of).length === 0 ? variant : `${variant}(${Object.values(of).join(', ')})`,
              )
              .join(' | ')
      expect(`${name}: ${text}`).toBe(`${name}: ${body}`)
    }
  })

  it.skipIf(missing)('answers every method of the runtime API', () => {
    const own = Object.entries(pallet.runtimeApis?.['NetworkRuntimeApi'] ?? {}).map(
      ([method, { args, result }]) => `${method}(${fields(args)}) -> ${result}`,
    )
    expect(own).toEqual(lines('runtime'))
  })
})

it('networkPallet: metadata of the whole runtime can be made, and every type is known', () => {
  const { types } = createNativeRuntime({ pallets: [pallet] })
  for (const { args } of pallet.calls) for (const type of Object.values(args)) types.table.codec(type)
  for (const item of types.items.values())
    if (item.definition.default !== undefined)
      expect(
        types.table.decode(
          item.definition.type,
          types.table.encode(item.definition.type, item.definition.default),
        ),
      ).toEqual(item.definition.default)
})

it('networkPallet: an epoch without a slot for a subnet is refused', () => {
  expect(() => networkPallet({ epochBlocks: 3 })).toThrow(/epochs of 3 blocks/)
  expect(() => networkPallet({ epochBlocks: 20.5 })).toThrow(/20.5/)
})
