import { beforeAll, describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { decodeCborMap, encodeCbor } from '../../src/protocol/cbor.ts'
import { CLOCK_TOLERANCE_MS, MAX_ADDRS, MAX_RECORD_LIFETIME_MS } from '../../src/protocol/limits.ts'
import { parseSignedRecord, recordSignedBytes } from '../../src/protocol/records.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { createIdentity, type Identity, signRecord, verifyRecord } from '../../src/swarm/identity.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { mutate, noise, seededRandom, withoutStackTraces } from './random.ts'

const NOW = 1_800_000_000_000
let identity: Identity
let other: Identity
let signed: Uint8Array

beforeAll(async () => {
  identity = await createIdentity(new Uint8Array(32).fill(1))
  other = await createIdentity(new Uint8Array(32).fill(2))
  signed = await signRecord(identity, { record: serverRecord(identity.peerId, NOW), model: MODEL })
})

const sign = (changes: Partial<ServerRecord>, model = MODEL) =>
  signRecord(identity, { record: serverRecord(identity.peerId, NOW, changes), model })

/** Signs any body, as somebody who does not use our encoder would. */
async function signBody(body: object, by = identity): Promise<Uint8Array> {
  const bytes = encodeCbor(body)
  return encodeCbor({ body: bytes, signature: await by.privateKey.sign(recordSignedBytes(bytes)) })
}

function bodyOf(record: Uint8Array): Record<string, unknown> {
  return { ...decodeCborMap(decodeCborMap(record, 'x')['body'] as Uint8Array, 'y') }
}

describe('verifyRecord', () => {
  it('reads what signRecord wrote', async () => {
    const { record, model } = await verifyRecord(signed, NOW)
    expect(record).toEqual(serverRecord(identity.peerId, NOW))
    expect(model).toEqual(MODEL)
  })

  it('a model’s revision and precision travel where a server knows them, within bounds', async () => {
    const model = { ...MODEL, revision: 'a'.repeat(40), precision: 'q4_0' }
    expect((await verifyRecord(await sign({}, model), NOW)).model).toEqual(model)
    for (const field of ['modelRevision', 'modelPrecision']) {
      const long = await signBody({ ...bodyOf(signed), [field]: 'x'.repeat(97) })
      await expect(verifyRecord(long, NOW), field).rejects.toMatchObject({ code: 'protocol', field })
    }
  })

  it('what a server could hold, and how long it stays, travels within bounds', async () => {
    const { record } = await verifyRecord(await sign({ maxBlocks: 12, staysUntil: NOW + 5 }), NOW)
    expect(record).toMatchObject({ maxBlocks: 12, staysUntil: NOW + 5 })
    await expect(sign({ maxBlocks: 1 << 17 }).then((bytes) => verifyRecord(bytes, NOW))).rejects.toThrow(
      /maxBlocks/,
    )
    await expect(sign({ staysUntil: 9e15 }).then((bytes) => verifyRecord(bytes, NOW))).rejects.toThrow(
      /staysUntil/,
    )
  })

  it('who gives weights, by which manifest, travels within bounds', async () => {
    const manifest = 'c0'.repeat(32)
    const { record } = await verifyRecord(await sign({ blobs: true, manifest }), NOW)
    expect(record).toMatchObject({ blobs: true, manifest })
    expect((await verifyRecord(await sign({ blobs: false }), NOW)).record.blobs).toBeUndefined()
    for (const [field, value] of [
      ['blobs', 1],
      ['manifest', manifest],
      ['manifest', new Uint8Array(31)],
    ] as const) {
      const wrong = await signBody({ ...bodyOf(signed), [field]: value })
      await expect(verifyRecord(wrong, NOW), field).rejects.toMatchObject({ code: 'protocol', field })
    }
  })

  it('an identity from a seed is the same peer again', async () => {
    expect((await createIdentity(new Uint8Array(32).fill(1))).peerId).toBe(identity.peerId)
    await expect(createIdentity(new Uint8Array(31))).rejects.toThrow(/32 bytes/)
  })

  it('takes fields of newer versions and covers them by the signature', async () => {
    const future = await signBody({ ...bodyOf(signed), stakeProof: 'x' })
    expect((await verifyRecord(future, NOW)).record).toEqual(serverRecord(identity.peerId, NOW))
    const changed = decodeCborMap(future, 'x')
    const body = (changed['body'] as Uint8Array).slice()
    body[body.indexOf('x'.charCodeAt(0), body.length - 300)] = 'y'.charCodeAt(0)
    await expect(
      verifyRecord(
        encodeCbor({
          body: encodeCbor({ ...bodyOf(future), stakeProof: 'y' }),
          signature: changed['signature'],
        }),
        NOW,
      ),
    ).rejects.toThrow(/not signed by that peer/)
  })

  it('refuses a record that another key signed, and signRecord one of another peer', async () => {
    await expect(verifyRecord(await signBody(bodyOf(signed), other), NOW)).rejects.toThrow(
      /not signed by that peer/,
    )
    await expect(
      signRecord(other, { record: serverRecord(identity.peerId, NOW), model: MODEL }),
    ).rejects.toThrow(/can't sign a record of/)
  })

  it('refuses any single changed byte', async () => {
    for (let i = 0; i < signed.length; i += 3) {
      const forged = signed.slice()
      forged[i]! ^= 1
      await expect(verifyRecord(forged, NOW), `byte ${i}`).rejects.toMatchObject({ code: 'protocol' })
    }
  })

  it.each([
    ['no peer id', 'hello'],
    ['a peer id of another key type', '16Uiu2HAm9AfP8pqeE7ZqYBWSZtQ5bBGyQEpTZYuNK2PsmVn2aXdb'],
    ['a peer id as CID', 'bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l'],
  ])('refuses %s', async (_, peerId) => {
    await expect(verifyRecord(await signBody({ ...bodyOf(signed), peerId }), NOW)).rejects.toMatchObject({
      code: 'protocol',
    })
  })

  it('bounds its times: expired, too long, from the future, expiring before it was issued', async () => {
    await expect(verifyRecord(signed, NOW + 45_000)).rejects.toThrow(/expired 0 ms ago/)
    await expect(verifyRecord(signed, NOW + 44_999)).resolves.toBeDefined()
    await expect(verifyRecord(signed, NOW - CLOCK_TOLERANCE_MS)).resolves.toBeDefined()
    await expect(verifyRecord(signed, NOW - CLOCK_TOLERANCE_MS - 1)).rejects.toThrow(
      /in the future: check both clocks/,
    )
    const long = await sign({ expiresAt: NOW + MAX_RECORD_LIFETIME_MS + 1 })
    await expect(verifyRecord(long, NOW)).rejects.toThrow(/valid for 300001 ms/)
    await expect(verifyRecord(await sign({ expiresAt: NOW - 1 }), NOW - 10)).rejects.toThrow(
      /valid for -1 ms/,
    )
  })

  it.each<[string, Partial<ServerRecord>, RegExp]>([
    ['an empty span', { start: 4 }, /span 4:4/],
    ['a span beyond the model', { end: 9 }, /span 0:9 is not inside blocks 0:8/],
    ['too many addresses', { addrs: Array.from({ length: MAX_ADDRS + 1 }, () => '/x') }, /addrs/],
    ['a long address', { addrs: ['x'.repeat(201)] }, /addrs/],
    ['control characters', { engine: 'x\u001b[2J' }, /engine/],
    ['a negative throughput', { throughput: -1 }, /throughput/],
    ['an unknown state', { state: 'sleeping' as never }, /state/],
    ['a fraction of a session', { sessions: 0.5 }, /sessions/],
  ])('refuses %s', async (_, changes, message) => {
    await expect(verifyRecord(await sign(changes), NOW)).rejects.toThrow(message)
  })

  it('refuses to write a record that is too long', async () => {
    const addrs = Array.from({ length: MAX_ADDRS }, (_, i) => `/dns4/${'x'.repeat(180)}${i}`)
    const name = 'n'.repeat(256)
    await expect(sign({ addrs, modelId: name, engine: 'e'.repeat(900) }, { ...MODEL, name })).rejects.toThrow(
      /announce fewer addresses/,
    )
  })
})

describe('parseSignedRecord', () => {
  it('100,000 broken records: only protocol errors, none verifies', async () => {
    const random = seededRandom(17)
    const envelope = decodeCborMap(signed, 'x')
    const body = envelope['body'] as Uint8Array
    const parsed: Uint8Array[] = []
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        // Most changes go into the body, so that they get past the envelope.
        const bytes =
          i % 10 === 0
            ? noise(400, random)
            : i % 3 === 0
              ? mutate(signed, random)
              : encodeCbor({ ...envelope, body: mutate(body, random) })
        try {
          parseSignedRecord(bytes, NOW)
          if (parsed.length < 200 && Buffer.compare(bytes, signed) !== 0) parsed.push(bytes)
        } catch (error) {
          if (errorCode(error) !== 'protocol') throw error
        }
      }
    })
    expect(parsed.length).toBeGreaterThan(50)
    for (const bytes of parsed)
      await expect(verifyRecord(bytes, NOW)).rejects.toMatchObject({ code: 'protocol' })
  })
})
