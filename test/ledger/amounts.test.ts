import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { formatAmount, formatTokens, parseAmount } from '../../src/ledger/amounts.ts'
import { base58Bytes, base58Text, multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'

const PEER = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

describe('parseAmount', () => {
  it.each([
    ['100', 100_000n],
    ['100.5', 100_500n],
    ['0.001', 1n],
    [' 7 ', 7000n],
  ])('%s tokens of 3 decimals', (text, amount) => {
    expect(parseAmount(text, 3)).toBe(amount)
    expect(parseAmount(formatTokens(amount, 3), 3)).toBe(amount)
  })

  it.each(['', '-1', '1e3', '1.', '.5', '1,5', '0x10', '1.0001', '100000000000000000000000', 'NaN'])(
    '%j is refused',
    (text) => expect(() => parseAmount(text, 3)).toThrow(/amount/),
  )

  it('a token without decimals has whole amounts only', () => {
    expect(parseAmount('5', 0)).toBe(5n)
    expect(() => parseAmount('5.0', 0)).toThrow(/0 decimals/)
    expect(formatTokens(5n, 0)).toBe('5')
  })

  it('formatAmount drops trailing zeros and keeps every unit', () => {
    const token = { tokenDecimals: 18, tokenSymbol: 'TENSOR' }
    expect(formatAmount(100_500_000_000_000_000_000n, token)).toBe('100.5 TENSOR')
    expect(formatAmount(1n, token)).toBe('0.000000000000000001 TENSOR')
    expect(formatAmount(-3n * 10n ** 18n, token)).toBe('-3 TENSOR')
  })
})

describe('multiaddrBytes', () => {
  it.each([
    `/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`,
    `/ip6/::1/tcp/1/ws/p2p/${PEER}`,
    `/ip6/2001:db8::7:1/tcp/65535/p2p/${PEER}`,
    `/dns4/node.example.org/tcp/443/wss/p2p/${PEER}`,
    `/p2p/${PEER}`,
  ])("%s is as libp2p's own", (text) => expect(multiaddrBytes(text)).toEqual(multiaddr(text).bytes))

  it.each([
    ['127.0.0.1:4001', /no multiaddr/],
    ['/ip4/127.0.0.1/tcp/4001', /must end in \/p2p/],
    [`/ip4/300.0.0.1/tcp/4001/p2p/${PEER}`, /no IPv4/],
    [`/ip4/127.0.0.1/tcp/70000/p2p/${PEER}`, /no port/],
    [`/ip4/127.0.0.1/udp/1/quic-v1/p2p/${PEER}`, /udp can't stand/],
    [`/ip6/1::2::3/tcp/1/p2p/${PEER}`, /no IPv6/],
    ['/p2p/0OIl', /no base58/],
  ])('%s is refused', (text, why) => expect(() => multiaddrBytes(text)).toThrow(why))

  it('base58 goes both ways, leading zeros included', () => {
    for (const bytes of [[], [0], [0, 0, 1], [255, 0, 7]])
      expect([...base58Bytes(base58Text(Uint8Array.from(bytes)))]).toEqual(bytes)
    expect(base58Text(base58Bytes(PEER))).toBe(PEER)
  })
})
