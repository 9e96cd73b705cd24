import { ChoraleError } from '../../errors.ts'

/** Bytes as lower-case 0x-hex. */
export function toHex(bytes: Uint8Array): string {
  let text = '0x'
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

/** Bytes of 0x-hex. @throws `ledger` naming `what` when the value is something else. */
export function fromHex(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' || !/^0x(?:[0-9a-fA-F]{2})*$/.test(value)) {
    throw new ChoraleError(
      'ledger',
      `the node sent ${what} that is no 0x-hex: ${String(value).slice(0, 80)}`,
      {
        field: what,
      },
    )
  }
  const bytes = new Uint8Array((value.length - 2) / 2)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(value.slice(2 + 2 * i, 4 + 2 * i), 16)
  return bytes
}

/** Bytes one after the other. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}
