import { hexToBytes } from '@noble/hashes/utils.js'
import { invalidParams } from './rpc-error.ts'

/** Parameters of one JSON-RPC request, by position; every reader names the parameter it does not like. */
export class RpcParams {
  readonly #values: readonly unknown[]

  constructor(values: readonly unknown[]) {
    this.#values = values
  }

  get length(): number {
    return this.#values.length
  }

  /** The parameter as it came. */
  raw(at: number): unknown {
    return this.#values[at]
  }

  /** 0x-hex of any length. */
  bytes(at: number, name: string): Uint8Array {
    return readHex(this.#values[at], name)
  }

  optionalBytes(at: number, name: string): Uint8Array | undefined {
    return isAbsent(this.#values[at]) ? undefined : this.bytes(at, name)
  }

  /** A list of 0x-hex, at most `limit` long. */
  bytesList(at: number, name: string, limit: number): readonly Uint8Array[] {
    return this.list(at, name, limit).map((value, index) => readHex(value, `${name}[${index}]`))
  }

  list(at: number, name: string, limit: number): readonly unknown[] {
    const value = this.#values[at]
    if (!Array.isArray(value)) throw invalidParams(`${name} is no list`)
    if (value.length > limit)
      throw invalidParams(`${name} has ${value.length} entries, the limit is ${limit}`)
    return value
  }

  /** A block hash, lower case; undefined when the parameter is absent. */
  hash(at: number, name = 'hash'): string | undefined {
    const value = this.#values[at]
    if (isAbsent(value)) return undefined
    if (typeof value !== 'string' || !/^0x[0-9a-fA-F]{64}$/.test(value)) {
      throw invalidParams(`${name} is no block hash: ${shown(value)}`)
    }
    return value.toLowerCase()
  }

  /** An unsigned integer, as a number or in text; `fallback` when absent. */
  integer(at: number, name: string, limit: number, fallback?: number): number {
    const value = this.#values[at]
    if (isAbsent(value) && fallback !== undefined) return fallback
    return readInteger(value, name, limit)
  }

  text(at: number, name: string): string {
    const value = this.#values[at]
    if (typeof value !== 'string') throw invalidParams(`${name} is no text: ${shown(value)}`)
    return value
  }

  /** An object; an empty one when absent. */
  options(at: number, name: string): Readonly<Record<string, unknown>> {
    const value = this.#values[at]
    if (isAbsent(value)) return {}
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw invalidParams(`${name} is no object: ${shown(value)}`)
    }
    return value as Record<string, unknown>
  }
}

/** Reads an unsigned integer up to `limit`, decimal or 0x-hex. @throws RpcError */
export function readInteger(value: unknown, name: string, limit: number): number {
  const number =
    typeof value === 'string' && /^(0x[0-9a-fA-F]{1,14}|\d{1,16})$/.test(value) ? Number(value) : value
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0 || number > limit) {
    throw invalidParams(`${name} is no whole number up to ${limit}: ${shown(value)}`)
  }
  return number
}

/** Reads 0x-hex. @throws RpcError */
export function readHex(value: unknown, name: string): Uint8Array {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^0x[0-9a-fA-F]*$/.test(value)) {
    throw invalidParams(`${name} is no 0x-hex: ${shown(value)}`)
  }
  return hexToBytes(value.slice(2))
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null
}

/** A value as an error message may show it. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 60)
}
