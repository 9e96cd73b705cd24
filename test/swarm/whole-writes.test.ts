import { describe, expect, it } from 'vitest'
import type { TransportFactory } from '../../src/swarm/transports.ts'
import { wholeWrites } from '../../src/swarm/whole-writes.ts'

/** What a transport is given and gives back, as far as `wholeWrites` touches it. */
interface Seen {
  sendData: (data: Iterable<Uint8Array> & { byteLength: number; subarray(): Uint8Array }) => unknown
}

/** Dials through a transport whose connections note what they write. */
async function dialled(): Promise<{ connection: Seen; writes: Uint8Array[] }> {
  const writes: Uint8Array[] = []
  const connection: Seen = {
    sendData: (data) => {
      writes.push(...data)
      return { sentBytes: data.byteLength, canSendMore: true }
    },
  }
  let upgraded: Seen | undefined
  const upgrader = { upgradeOutbound: async (raw: Seen) => (upgraded = raw) }
  const factory = () => ({
    dial: (_: unknown, options: { upgrader: typeof upgrader }) =>
      options.upgrader.upgradeOutbound(connection),
    createListener: () => undefined,
  })
  const transport = wholeWrites(factory as unknown as TransportFactory)({} as never)
  await transport.dial({} as never, { upgrader } as never)
  return { connection: upgraded!, writes }
}

function listOf(...lengths: number[]) {
  const parts = lengths.map((length, i) => new Uint8Array(length).fill(i + 1))
  const byteLength = lengths.reduce((sum, length) => sum + length, 0)
  const subarray = () => Uint8Array.from(parts.flatMap((part) => [...part]))
  return Object.assign(parts, { byteLength, subarray })
}

describe('wholeWrites', () => {
  it('writes a message of several pieces at once, byte for byte', async () => {
    const { connection, writes } = await dialled()
    const message = listOf(2, 12, 100, 16)
    expect(connection.sendData(message)).toEqual({ sentBytes: 130, canSendMore: true })
    expect(writes).toEqual([message.subarray()])
  })

  it('passes long messages on in pieces: copying them costs more', async () => {
    const { connection, writes } = await dialled()
    connection.sendData(listOf(2, 300_000))
    expect(writes.map((bytes) => bytes.length)).toEqual([2, 300_000])
  })
})
