import { ChoraleError } from '../errors.ts'

/**
 * Multiaddrs as the Network pallet takes them: binary, of the protocols it knows, ending in /p2p.
 * https://github.com/multiformats/multiaddr; pallets/network/src/utilities/multiaddr.rs
 */

/** Without udp: the pallet numbers it 17, multiaddrs 273, so that nobody could read what passes. */
const CODES: Readonly<Record<string, number>> = {
  ip4: 4,
  tcp: 6,
  ip6: 41,
  dns4: 54,
  dns6: 55,
  dnsaddr: 56,
  p2p: 421,
  ws: 477,
  wss: 478,
}
/** Defends against texts made to be long; the pallet's limit is 1024 bytes. */
const MAX_TEXT = 1024
const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

/** Binary form of `/ip4/…/tcp/…/p2p/…`. @throws `bad_config` naming the part that the ledger would not take. */
export function multiaddrBytes(address: string): Uint8Array {
  const parts = address.split('/')
  if (address.length > MAX_TEXT || parts.shift() !== '' || parts.length === 0)
    throw wrong(address, 'no multiaddr')
  const out: number[] = []
  let last = ''
  while (parts.length > 0) {
    last = parts.shift() ?? ''
    const code = CODES[last]
    if (code === undefined) throw wrong(address, `/${last} can't stand on the ledger`)
    out.push(...varint(code))
    if (last !== 'ws' && last !== 'wss') out.push(...value(last, parts.shift() ?? '', address))
  }
  if (last !== 'p2p') throw wrong(address, 'it must end in /p2p/PEER')
  return Uint8Array.from(out)
}

/** Bytes of base58btc text, as peer ids are written. @throws `bad_config`. */
export function base58Bytes(text: string): Uint8Array {
  let number = 0n
  for (const char of text.slice(0, MAX_TEXT)) {
    const digit = ALPHABET.indexOf(char)
    if (digit < 0) throw new ChoraleError('bad_config', `${text} is no base58: it has ${char}`)
    number = number * 58n + BigInt(digit)
  }
  const bytes: number[] = []
  for (; number > 0n; number >>= 8n) bytes.unshift(Number(number & 0xffn))
  const zeros = /^1*/.exec(text)?.[0].length ?? 0
  return Uint8Array.from([...Array.from({ length: zeros }, () => 0), ...bytes])
}

/** Base58btc text of bytes. */
export function base58Text(bytes: Uint8Array): string {
  let number = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
  let text = ''
  for (; number > 0n; number /= 58n) text = `${ALPHABET[Number(number % 58n)] ?? ''}${text}`
  const zeros = bytes.findIndex((byte) => byte !== 0)
  return '1'.repeat(zeros < 0 ? bytes.length : zeros) + text
}

function value(protocol: string, text: string, address: string): number[] {
  switch (protocol) {
    case 'ip4': {
      const numbers = text.split('.').map(Number)
      if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text) || numbers.some((part) => part > 255))
        throw wrong(address, `${text} is no IPv4 address`)
      return numbers
    }
    case 'ip6':
      return ip6(text, address)
    case 'tcp': {
      const port = Number(text)
      if (!/^\d{1,5}$/.test(text) || port > 65_535) throw wrong(address, `${text} is no port`)
      return [port >> 8, port & 255]
    }
    default: {
      const bytes = protocol === 'p2p' ? base58Bytes(text) : new TextEncoder().encode(text)
      if (bytes.length === 0) throw wrong(address, `/${protocol} names nothing`)
      return [...varint(bytes.length), ...bytes]
    }
  }
}

function ip6(text: string, address: string): number[] {
  const [head = '', tail, more] = text.split('::')
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const missing = 8 - before.length - after.length
  const all = [...before, ...Array.from({ length: tail === undefined ? 0 : missing }, () => '0'), ...after]
  if (more !== undefined || all.length !== 8 || all.some((group) => !/^[0-9a-fA-F]{1,4}$/.test(group)))
    throw wrong(address, `${text} is no IPv6 address`)
  return all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255])
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]
}

function wrong(address: string, why: string): ChoraleError {
  return new ChoraleError('bad_config', `${address.slice(0, 200)}: ${why}`, { field: 'addr' })
}
