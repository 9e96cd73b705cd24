import { hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError, errorMessage } from '../../errors.ts'

/** A raw chain spec: the genesis state as key and value pairs, and what the node says of the chain. */
export interface ChainSpec {
  readonly name: string
  readonly id: string
  readonly properties: Readonly<Record<string, unknown>>
  readonly genesis: readonly (readonly [key: Uint8Array, value: Uint8Array])[]
}

/** Characters of a chain spec: a runtime in hex, and room for a large genesis. */
const MAX_SPEC_CHARACTERS = 512 * 2 ** 20
/** Entries of a genesis. */
const MAX_ENTRIES = 5_000_000

/**
 * Reads a raw chain spec (`genesis.raw.top`), as `build-spec --raw` writes it.
 * @throws `bad_file` naming the field; `not_supported` for specs without raw genesis, or with child storage; `limit`.
 */
export function parseChainSpec(text: string): ChainSpec {
  if (text.length > MAX_SPEC_CHARACTERS) {
    throw new ChoraleError(
      'limit',
      `the chain spec has ${text.length} characters, the limit is ${MAX_SPEC_CHARACTERS}`,
    )
  }
  let spec: unknown
  try {
    spec = JSON.parse(text)
  } catch (error) {
    throw new ChoraleError('bad_file', `the chain spec is no JSON: ${errorMessage(error)}`, { cause: error })
  }
  const raw = field(field(spec, 'genesis'), 'raw')
  if (raw === undefined) {
    throw new ChoraleError(
      'not_supported',
      'the chain spec has no genesis.raw; a raw one holds the whole state (build-spec --raw)',
      { field: 'genesis.raw' },
    )
  }
  const children = field(raw, 'childrenDefault')
  if (isRecord(children) && Object.keys(children).length > 0) {
    throw new ChoraleError('not_supported', 'the chain spec has child storage, which is not run here', {
      field: 'genesis.raw.childrenDefault',
    })
  }
  const top = field(raw, 'top')
  if (!isRecord(top)) throw badField('genesis.raw.top', 'is no object')
  const entries = Object.entries(top)
  if (entries.length > MAX_ENTRIES) {
    throw new ChoraleError(
      'limit',
      `genesis.raw.top has ${entries.length} entries, the limit is ${MAX_ENTRIES}`,
    )
  }
  const genesis = entries.map(([key, value]) => [readHex(key, 'key'), readHex(value, key)] as const)
  const name = field(spec, 'name')
  const id = field(spec, 'id')
  const properties = field(spec, 'properties')
  return {
    name: typeof name === 'string' ? name : 'Development',
    id: typeof id === 'string' ? id : 'dev',
    properties: isRecord(properties) ? properties : {},
    genesis,
  }
}

function readHex(value: unknown, of: string): Uint8Array {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^0x[0-9a-fA-F]*$/.test(value)) {
    throw badField(`genesis.raw.top ${of.slice(0, 80)}`, `is no 0x-hex: ${String(value).slice(0, 40)}`)
  }
  return hexToBytes(value.slice(2))
}

function badField(name: string, problem: string): ChoraleError {
  return new ChoraleError('bad_file', `the chain spec's ${name} ${problem}`, { field: name })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function field(value: unknown, name: string): unknown {
  return isRecord(value) ? value[name] : undefined
}
