import { describe, expect, it } from 'vitest'
import { createRecordStore, type StoredRecord } from '../../src/swarm/record-store.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'

const NOW = 1_800_000_000_000

function entry(peerId: string, changes: Parameters<typeof serverRecord>[2] = {}): StoredRecord {
  const record = serverRecord(peerId, NOW, changes)
  return { record, model: { ...MODEL, modelId: record.modelId }, bytes: new Uint8Array(1) }
}

describe('createRecordStore', () => {
  it('keeps the newest record of a peer and model', () => {
    const store = createRecordStore()
    expect(store.put(entry('a', { issuedAt: NOW + 1 }), NOW)).toBe(true)
    expect(store.put(entry('a', { issuedAt: NOW, end: 8 }), NOW)).toBe(false)
    expect(store.put(entry('a', { issuedAt: NOW + 1, end: 8 }), NOW)).toBe(false)
    expect(store.put(entry('a', { issuedAt: NOW + 2, end: 6 }), NOW)).toBe(true)
    expect(store.ofModel(MODEL.modelId, NOW).map(({ record }) => record.end)).toEqual([6])
    expect(store.size).toBe(1)
  })

  it('a record that was replaced does not come back by a replay', () => {
    const store = createRecordStore()
    const online = entry('a')
    store.put(online, NOW)
    store.put(entry('a', { issuedAt: NOW + 5, state: 'offline' }), NOW)
    expect(store.put(online, NOW)).toBe(false)
    expect(store.ofModel(MODEL.modelId, NOW)[0]?.record.state).toBe('offline')
  })

  it('refuses more records than fit, until some expire', () => {
    const store = createRecordStore({ records: 3, perPeer: 2 })
    for (const peer of ['a', 'b', 'c']) store.put(entry(peer), NOW)
    expect(() => store.put(entry('d'), NOW)).toThrow(/full with 3 records/)
    expect(store.put(entry('a', { issuedAt: NOW + 1 }), NOW)).toBe(true)
    expect(store.put(entry('d', { expiresAt: NOW + 90_000 }), NOW + 45_000)).toBe(true)
    expect(store.size).toBe(1)
  })

  it('bounds the models of one peer', () => {
    const store = createRecordStore({ records: 100, perPeer: 2 })
    store.put(entry('a', { modelId: 'x@1' }), NOW)
    store.put(entry('a', { modelId: 'y@1' }), NOW)
    expect(() => store.put(entry('a', { modelId: 'z@1' }), NOW)).toThrow(/listed for 2 models/)
    expect(store.ofEachModel(NOW).map(({ model }) => model.modelId)).toEqual(['x@1', 'y@1'])
  })
})
