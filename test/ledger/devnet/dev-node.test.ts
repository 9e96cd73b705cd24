import { describe, expect, it } from 'vitest'
import type { ChainLog } from '../../../src/ledger/devnet/chain-store.ts'
import type { ExtrinsicStatus } from '../../../src/ledger/devnet/extrinsic-watchers.ts'
import { createStateStore } from '../../../src/ledger/devnet/storage.ts'
import { TINY_BLOCK, TINY_COUNT, tinyCount, tinyExtrinsic, tinyNode } from './tiny-runtime.ts'

/** The kinds of a list of statuses. */
const kinds = (statuses: readonly ExtrinsicStatus[]) =>
  statuses.map((status) => (typeof status === 'string' ? status : Object.keys(status)[0]))

/** A log in memory; what was written so far can be taken as after a crash. */
function memoryLog(records: Uint8Array[] = []): ChainLog & { readonly records: Uint8Array[] } {
  return {
    records,
    read: () => [...records],
    append: (record) => void records.push(record),
    rewrite: (all) => void records.splice(0, records.length, ...all),
    close: () => undefined,
  }
}

describe('DevNode', () => {
  it('makes a block at once for extrinsics sent together', async () => {
    const node = tinyNode({ mode: 'instant' })
    const statuses: ExtrinsicStatus[] = []
    node.submit(tinyExtrinsic(1, 1))
    node.submit(tinyExtrinsic(1, 0), (status) => statuses.push(status))
    expect(node.chain.head.header.number).toBe(0)
    await expect.poll(() => kinds(statuses)).toEqual(['ready', 'inBlock', 'finalized'])
    expect(node.chain.head.header.number).toBe(1)
    expect(tinyCount(node)).toBe(2)
    node.close()
  })

  it('makes a block each interval', async () => {
    const node = tinyNode({ mode: { everyMs: 10 } })
    await expect.poll(() => node.chain.head.header.number).toBeGreaterThan(2)
    node.mode = 'manual'
    node.close()
  })

  it('leaves what does not fit for the next block', () => {
    const node = tinyNode()
    for (let nonce = 0; nonce < TINY_BLOCK + 5; nonce++) node.submit(tinyExtrinsic(1, nonce))
    node.build()
    expect([tinyCount(node), node.pool.size]).toEqual([TINY_BLOCK, 5])
    node.build()
    expect([tinyCount(node), node.pool.size]).toEqual([TINY_BLOCK + 5, 0])
    node.close()
  })

  it('drops an extrinsic that panics or is refused in the block, without a trace in the state', () => {
    const node = tinyNode()
    const panics: ExtrinsicStatus[] = []
    const refused: ExtrinsicStatus[] = []
    const after: ExtrinsicStatus[] = []
    node.submit(tinyExtrinsic(1, 0, { kind: 'panic' }), (status) => panics.push(status))
    node.submit(tinyExtrinsic(2, 0, { kind: 'fail in block' }), (status) => refused.push(status))
    node.submit(tinyExtrinsic(2, 1), (status) => after.push(status))
    node.submit(tinyExtrinsic(3, 0))
    node.build()
    expect(kinds(panics)).toEqual(['ready', 'invalid'])
    expect(kinds(refused)).toEqual(['ready', 'invalid'])
    expect(kinds(after)).toEqual(['ready', 'dropped'])
    expect([tinyCount(node), node.pool.size]).toEqual([1, 0])
    expect(() => node.submit(tinyExtrinsic(1, 0, { kind: 'panic' }))).toThrow('temporarily banned')
    expect(() => node.submit(tinyExtrinsic(1, 0))).not.toThrow()
    node.close()
  })

  it('refuses a stale extrinsic, and bytes that are none', () => {
    const node = tinyNode()
    node.submit(tinyExtrinsic(1, 0))
    node.build()
    expect(() => node.submit(tinyExtrinsic(1, 0, { priority: 2 }))).toThrow(
      expect.objectContaining({ code: 1010, data: 'Transaction is outdated' }),
    )
    expect(() => node.submit(Uint8Array.of(1, 2, 3))).toThrow(expect.objectContaining({ code: 1002 }))
    node.close()
  })

  it('replaces blocks that are not final by a longer fork with the same extrinsics', () => {
    const node = tinyNode({ finalityLag: 5 })
    const statuses: ExtrinsicStatus[] = []
    node.build(3)
    node.submit(tinyExtrinsic(1, 0), (status) => statuses.push(status))
    node.build(2)
    const old = node.chain.head.hash
    const changes: [number, number][] = []
    node.listen({ onHead: ({ retracted, enacted }) => changes.push([retracted.length, enacted.length]) })
    const head = node.reorg(2)
    expect(head.header.number).toBe(6)
    expect(head.hash).not.toBe(old)
    expect(changes).toEqual([[2, 3]])
    expect(kinds(statuses)).toEqual(['ready', 'inBlock', 'retracted', 'ready', 'inBlock'])
    expect([tinyCount(node), tinyCount(node, old)]).toEqual([1, 1])
    node.close()
  })

  it('forgets or leaves waiting the extrinsics of a reorg when asked', () => {
    const dropped = tinyNode({ finalityLag: 5 })
    dropped.submit(tinyExtrinsic(1, 0))
    dropped.build()
    dropped.reorg(1, 'drop')
    expect([tinyCount(dropped), dropped.pool.size]).toEqual([0, 0])
    dropped.close()
    const waiting = tinyNode({ finalityLag: 5 })
    waiting.submit(tinyExtrinsic(1, 0))
    waiting.build()
    waiting.reorg(1, 'pool')
    expect([tinyCount(waiting), waiting.pool.size]).toEqual([0, 1])
    waiting.build()
    expect(tinyCount(waiting)).toBe(1)
    waiting.close()
  })

  it('does not undo final blocks', () => {
    const node = tinyNode({ finalityLag: 2 })
    node.build(5)
    expect(() => node.reorg(3)).toThrow('block 3 is final')
    node.reorg(2)
    expect(node.chain.head.header.number).toBe(6)
    node.close()
  })

  it('tells finality late by its lag, each block once and in order', async () => {
    const node = tinyNode({ finalityLag: 2, finalityDelayMs: 0 })
    const numbers: number[] = []
    node.listen({ onFinalized: (blocks) => numbers.push(...blocks.map(({ header }) => header.number)) })
    node.build(4)
    node.reorg(1)
    await expect.poll(() => numbers).toEqual([1, 2, 3])
    node.finalityLag = 0
    await expect.poll(() => numbers).toEqual([1, 2, 3, 4, 5])
    node.close()
  })

  it('travels in time and never backwards', () => {
    const node = tinyNode()
    node.build()
    expect(node.headTime).toBe(1_000_000)
    node.timeTravel(5_000_000)
    node.build()
    expect(node.headTime).toBe(5_000_000)
    node.timeTravel(0)
    node.build()
    expect(node.headTime).toBe(5_000_001)
    node.close()
  })

  it('keeps the states of the last blocks only, and says so', () => {
    const node = tinyNode()
    node.build(300)
    const old = node.chain.hashAt(10)!
    expect(() => node.state(old)).toThrow('State already discarded')
    expect(node.state(node.chain.hashAt(50))).toBeDefined()
    expect(node.block(old).header.number).toBe(10)
    node.close()
  })
})

describe('DevNode with a log', () => {
  it('continues after a restart with the same head, states and final block', () => {
    const log = memoryLog()
    const node = tinyNode({ log, finalityLag: 2 })
    node.submit(tinyExtrinsic(1, 0))
    node.build(4)
    node.reorg(1)
    node.setStorage([[TINY_COUNT, Uint8Array.of(200, 0)]])
    node.submit(tinyExtrinsic(1, 1))
    node.build()
    const again = tinyNode({ log: memoryLog(log.records), finalityLag: 2 })
    expect(again.chain.head).toEqual(node.chain.head)
    expect(again.chain.finalized.hash).toBe(node.chain.finalized.hash)
    expect(tinyCount(again)).toBe(201)
    expect(again.chain.hashAt(2)).toBe(node.chain.hashAt(2))
    again.submit(tinyExtrinsic(1, 2))
    again.build()
    expect(tinyCount(again)).toBe(202)
    node.close()
    again.close()
  })

  it('comes back to some earlier moment from any prefix of its log', () => {
    const log = memoryLog()
    const node = tinyNode({ log, finalityLag: 1 })
    for (let nonce = 0; nonce < 8; nonce++) {
      node.submit(tinyExtrinsic(1, nonce))
      node.build()
    }
    node.close()
    for (let length = 0; length <= log.records.length; length++) {
      const again = tinyNode({ log: memoryLog(log.records.slice(0, length)), finalityLag: 1 })
      const { number } = again.chain.head.header
      expect(tinyCount(again)).toBe(number)
      again.submit(tinyExtrinsic(1, number))
      again.build()
      expect(tinyCount(again)).toBe(number + 1)
      again.close()
    }
  })

  it('shrinks to a snapshot from which the chain continues', () => {
    const log = memoryLog()
    const node = tinyNode({ log, finalityLag: 3 })
    for (let block = 0; block < 90; block++) node.build(50)
    node.close()
    const anchors = log.records.filter((record) => record[0] === 2)
    expect(anchors).toHaveLength(1)
    const again = tinyNode({ log: memoryLog(log.records), finalityLag: 3 })
    expect(again.chain.head.hash).toBe(node.chain.head.hash)
    expect(again.block(node.chain.hashAt(7)).hash).toBe(node.chain.hashAt(7))
    again.build()
    expect(again.chain.head.header.number).toBe(4501)
    again.close()
  })

  it('refuses the log of another chain, and records that contradict each other', () => {
    const log = memoryLog()
    const node = tinyNode({ log })
    node.build(2)
    node.close()
    const other = createStateStore([[TINY_COUNT, Uint8Array.of(1, 0)]]).entries()
    expect(() => tinyNode({ log: memoryLog(log.records), genesis: other })).toThrow(
      expect.objectContaining({ code: 'bad_config' }),
    )
    const block = log.records.findIndex((record) => record[0] === 3)
    const outcomes = new Set<unknown>()
    for (let at = 0; at < log.records[block]!.length; at++) {
      const records = log.records.map((record) => record.slice())
      records[block]![at]! ^= 0x40
      try {
        // The bodies of extrinsics alone are not checked again: the file's own checksums cover them.
        outcomes.add(tinyNode({ log: memoryLog(records) }).chain.head.hash)
      } catch (error) {
        outcomes.add((error as { code?: unknown }).code)
      }
    }
    expect(outcomes).toEqual(new Set(['bad_file', node.chain.head.hash]))
  })
})
