import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import type { Codec } from './type-table.ts'
import type { Primitive } from './type-text.ts'

/** @throws `bad_request` that a value is not what its type says. */
export function mismatch(path: string, expected: string, value: LedgerValue): never {
  const shown =
    typeof value === 'object'
      ? value instanceof Uint8Array
        ? `${value.length} bytes`
        : 'a compound value'
      : value
  throw new ChoraleError('bad_request', `${path}: ${expected} expected, got ${String(shown).slice(0, 80)}`, {
    field: path,
  })
}

/** `bool`, `str`, integers: up to 32 bits numbers, wider ones bigints. */
export function primitiveCodec(name: Primitive): Codec {
  if (name === 'bool') return BOOL
  if (name === 'str') return STR
  const signed = name.startsWith('i')
  const bits = Number(name.slice(1))
  if (bits <= 32) return smallCodec(name, (bits / 8) as 1 | 2 | 4, signed)
  return bigCodec(name, (bits / 8) as 8 | 16, signed)
}

const BOOL: Codec = {
  least: 1,
  encode(value, writer, path) {
    if (typeof value !== 'boolean') mismatch(path, 'true or false', value)
    writer.small(value ? 1 : 0, 1)
  },
  decode(reader) {
    const byte = reader.small(1, false)
    if (byte > 1) throw new ChoraleError('ledger', `SCALE: ${byte} is no bool`)
    return byte === 1
  },
}

const STR: Codec = {
  least: 1,
  encode(value, writer, path) {
    if (typeof value !== 'string') mismatch(path, 'text', value)
    const bytes = new TextEncoder().encode(value)
    writer.compact(bytes.length)
    writer.bytes(bytes)
  },
  decode(reader) {
    const bytes = reader.take(reader.count(1))
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch {
      throw new ChoraleError('ledger', 'SCALE: text is not UTF-8')
    }
  },
}

function smallCodec(name: string, size: 1 | 2 | 4, signed: boolean): Codec {
  const [least, most] = range(size * 8, signed)
  return {
    least: size,
    encode(value, writer, path) {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
        mismatch(path, `a number of type ${name}`, value)
      writer.small(value, size)
    },
    decode: (reader) => reader.small(size, signed),
  }
}

function bigCodec(name: string, size: 8 | 16, signed: boolean): Codec {
  const [least, most] = range(size * 8, signed)
  return {
    least: size,
    encode(value, writer, path) {
      if (typeof value !== 'bigint' || value < least || value > most)
        mismatch(path, `a bigint of type ${name}`, value)
      writer.big(value, size)
    },
    decode: (reader) => reader.big(size, signed),
  }
}

function range(bits: number, signed: boolean): [bigint, bigint] {
  return signed ? [-(1n << BigInt(bits - 1)), (1n << BigInt(bits - 1)) - 1n] : [0n, (1n << BigInt(bits)) - 1n]
}

/** `Compact<u8>` … `Compact<u128>`, and `Compact<()>` of signed extensions. */
export function compactCodec(name: Primitive): Codec {
  const bits = Number(name.slice(1))
  const most = (1n << BigInt(bits)) - 1n
  const wide = bits > 32
  return {
    least: 1,
    encode(value, writer, path) {
      const fits = wide
        ? typeof value === 'bigint' && value >= 0n && value <= most
        : typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most
      if (!fits) mismatch(path, `a ${wide ? 'bigint' : 'number'} of type ${name}`, value)
      writer.compact(value as number | bigint)
    },
    decode(reader) {
      const value = reader.compact()
      if (value > most) throw new ChoraleError('ledger', `SCALE: ${value} exceeds Compact<${name}>`)
      return wide ? value : Number(value)
    },
  }
}
