import { describe, expect, it } from 'vitest'
import { formatPercent } from '../../web/ui/format.ts'
import { digestOf, refreshPrefix } from '../../web/network/refresh-prefixes.ts'
import { readEvents } from '../../web/session/read-events.ts'
import { readSubnetView } from '../../web/session/subnet-view.ts'
import { seededRandom } from '../../node/seeded-random.ts'

const VIEW = {
  url: 'ws://127.0.0.1:9944',
  genesisHash: `0x${'ab'.repeat(32)}`,
  chain: 'Chorale Development',
  token: 'TENSOR',
  subnetId: 128_001,
  name: 'local',
  state: 'Active',
  block: 59,
  epoch: 2,
  progress: 0.8,
  elected: '12D3KooWa',
  proposed: true,
  attestation: 0.5,
  lastAttestation: null,
  nodes: [{ id: 1, peerId: '12D3KooWa', class: 'Validator', stake: '200', reputation: 1 }],
}

describe('readSubnetView', () => {
  it('reads what the gateway sends; null is undefined', () => {
    expect(readSubnetView(VIEW)).toEqual({ ...VIEW, lastAttestation: undefined })
  })

  it.each([undefined, null, 7, 'x', [], {}, { ...VIEW, nodes: 1 }, { ...VIEW, subnetId: '1' }])(
    'finds no subnet in %j',
    (value) => expect(readSubnetView(value)).toBeUndefined(),
  )

  it('takes no address that is no socket, keeps shares within 0 and 1, texts and lists short', () => {
    const wild = readSubnetView({
      ...VIEW,
      url: 'javascript:alert(1)',
      progress: 7,
      attestation: -3,
      name: 'x'.repeat(100_000),
      nodes: Array(100_000).fill(null),
    })
    expect(wild).toMatchObject({ url: undefined, progress: 1, attestation: 0 })
    expect(wild?.name.length).toBe(200)
    expect(wild?.nodes.length).toBe(1024)
  })

  it('never throws, whatever the fields are', () => {
    const random = seededRandom(7)
    const values = [undefined, null, NaN, -1, 1e99, '', 'x', [], {}, [[]], { a: 1 }, true, VIEW.nodes]
    const keys = Object.keys(VIEW)
    for (let i = 0; i < 100_000; i++) {
      const key = keys[Math.floor(random() * keys.length)] ?? ''
      const value = values[Math.floor(random() * values.length)]
      const view = readSubnetView({ ...VIEW, [key]: value })
      if (view !== undefined && !(view.progress >= 0 && view.progress <= 1)) throw new Error(key)
    }
  })
})

describe('readEvents', () => {
  const stream = (...parts: readonly string[]) =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (const part of parts) controller.enqueue(new TextEncoder().encode(part))
        controller.close()
      },
    })
  const all = async (body: ReadableStream<Uint8Array>) => {
    const found: string[] = []
    for await (const data of readEvents(body)) found.push(data)
    return found
  }

  it('gives the data of each event however it is cut, and leaves pings out', async () => {
    const text = 'event: state\ndata: {"a":"ä"}\n\n: ping\n\nevent: state\ndata: {"a":2}\n\n'
    for (let cut = 0; cut < text.length; cut++) {
      expect(await all(stream(text.slice(0, cut), text.slice(cut)))).toEqual(['{"a":"ä"}', '{"a":2}'])
    }
  })

  it('stops at a line without an end', async () => {
    const half = 'x'.repeat(9 * 1024 * 1024)
    await expect(all(stream(half, half))).rejects.toThrow(RangeError)
  })
})

describe('refreshPrefix', () => {
  it('finds a number whose digest begins as asked, in the bits that small networks look at', () => {
    for (let prefix = 0; prefix < 65_536; prefix += 257) {
      const number = refreshPrefix(prefix)
      // Six bits are met by all; eleven by most.
      expect((digestOf(number) ^ prefix) >> 10).toBe(0)
    }
  })
})

describe('formatPercent', () => {
  it('shows small shares as something', () => {
    expect([0, 0.004, 0.5, 2 / 3, 1].map(formatPercent)).toEqual(['0 %', '0.4 %', '50 %', '67 %', '100 %'])
  })
})
