/** Bytes after each protocol code; `undefined`: a varint says how many. */
const PAYLOAD: ReadonlyMap<number, number | undefined> = new Map([
  [4, 4], // ip4
  [41, 16], // ip6
  [6, 2], // tcp
  [17, 2], // udp
  [477, 0], // ws
  [478, 0], // wss
  [54, undefined], // dns4
  [55, undefined], // dns6
  [56, undefined], // dnsaddr
  [421, undefined], // p2p
])
const P2P = 421

/** Least and most bytes of a peer id's text. */
const PEER_ID_MIN = 32
const PEER_ID_MAX = 128

/**
 * Checks a binary multiaddr as the chain does: protocols ip4, ip6, tcp, udp, ws, wss, dns4, dns6, dnsaddr, p2p, and the
 * last one p2p. Names and peer ids inside are not read. @returns the error's name, or undefined when it is valid.
 */
export function multiaddrError(bytes: Uint8Array): string | undefined {
  let at = 0
  let last = 0
  const varint = (): number | undefined => {
    let value = 0
    for (let shift = 0; shift <= 63; shift += 7) {
      const byte = bytes[at]
      if (byte === undefined) return undefined
      at++
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    return undefined
  }
  while (at < bytes.length) {
    const protocol = varint()
    if (protocol === undefined) return 'MultiaddrInvalidVarint'
    if (!PAYLOAD.has(protocol)) return 'MultiaddrInvalidProtocol'
    const length = PAYLOAD.get(protocol) ?? varint()
    if (length === undefined) return 'MultiaddrInvalidVarint'
    if (at + length > bytes.length) return 'MultiaddrTruncated'
    at += length
    last = protocol
  }
  return last === P2P ? undefined : 'MultiaddrInvalidProtocol'
}

/**
 * Checks a peer id, the ASCII of its text: 32..128 bytes that begin like ed25519 identity multihashes (`1`), SHA-256 ones
 * (`Qm`) or a multibase prefix (`f`, `b`, `z`, `m`). The rest is not decoded.
 */
export function isPeerId(bytes: Uint8Array): boolean {
  if (bytes.length < PEER_ID_MIN || bytes.length > PEER_ID_MAX) return false
  const [first, second] = bytes
  return (
    first === 0x31 || (first === 0x51 && second === 0x6d) || [0x66, 0x62, 0x7a, 0x6d].includes(first ?? 0)
  )
}
