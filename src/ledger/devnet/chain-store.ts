import { ChoraleError } from '../../errors.ts'
import type { Block, Chain } from './chain.ts'
import { decodeHeader, encodeHeader, hashBytes, headerHash } from './header.ts'
import { toHex } from '../hex.ts'
import { ScaleReader, ScaleWriter } from './native/scale-bytes.ts'
import { type TrieChange, trieChanges } from './trie-changes.ts'
import { createStateStore, type StateStore, stateOf } from './storage.ts'
import { type Trie, trieRemove, trieSet } from './trie.ts'

/**
 * Port: a log of records on some disk. Records come back whole and in order or not at all: what a crash cut off at the
 * end is dropped by the implementation.
 */
export interface ChainLog {
  /** All records, oldest first. */
  read(): Iterable<Uint8Array>
  append(record: Uint8Array): void
  /** Replaces the whole log; after a crash there is either the old or the new one. */
  rewrite(records: Iterable<Uint8Array>): void
  close(): void
}

/** Blocks appended before the log is rewritten as a snapshot of the final state. */
const SNAPSHOT_BLOCKS = 4096

const GENESIS = 0
const HISTORY = 1
const ANCHOR = 2
const BLOCK = 3
const HEAD = 4
const PATCH = 5

/** Writes a chain's blocks and state changes as they happen, and reads them back. */
export class ChainStore {
  readonly #log: ChainLog
  #appended = 0

  constructor(log: ChainLog) {
    this.#log = log
  }

  /**
   * Brings an empty chain to where the log left it; begins the log when that is empty.
   * @throws `bad_config` when the log is of another genesis, `bad_file` when its records contradict each other.
   */
  restore(chain: Chain, stateVersion: (state: StateStore) => 0 | 1): void {
    let records = 0
    for (const record of this.#log.read()) {
      const reader = new ScaleReader(record)
      try {
        this.#replay(chain, reader, records++, stateVersion)
      } catch (error) {
        if (error instanceof ChoraleError && error.code !== 'ledger') throw error
        throw new ChoraleError('bad_file', `record ${records - 1} of the chain's log is unusable`, {
          cause: error,
        })
      }
    }
    if (records === 0) this.#log.append(genesisRecord(chain))
  }

  /** Appends a block of the best chain. */
  block(chain: Chain, block: Block): void {
    const parent = chain.parent(block)
    const before = parent && chain.state(parent.hash)?.trie
    this.#log.append(blockRecord(BLOCK, block, trieChanges(before, chain.state(block.hash)?.trie)))
    this.#appended++
  }

  /** Appends which block is the best one and which the last final one. */
  head(chain: Chain): void {
    const writer = begin(HEAD)
    writer.bytes(hashBytes(chain.head.hash))
    writer.bytes(hashBytes(chain.finalized.hash))
    this.#log.append(writer.finish())
    if (this.#appended >= SNAPSHOT_BLOCKS) this.snapshot(chain)
  }

  /** Appends what `dev_setStorage` did to the state after a block. */
  patch(hash: string, before: Trie, after: Trie): void {
    const writer = begin(PATCH)
    writer.bytes(hashBytes(hash))
    writeChanges(writer, trieChanges(before, after))
    this.#log.append(writer.finish())
  }

  /** Rewrites the log: the final state, the blocks before it without their states, the blocks after it. */
  snapshot(chain: Chain): void {
    this.#log.rewrite(snapshotRecords(chain))
    this.#appended = 0
  }

  close(): void {
    this.#log.close()
  }

  #replay(
    chain: Chain,
    reader: ScaleReader,
    index: number,
    stateVersion: (state: StateStore) => 0 | 1,
  ): void {
    const kind = reader.small(1, false)
    if ((kind === GENESIS) !== (index === 0)) throw new Error('the log does not begin with a genesis')
    if (kind === GENESIS) {
      const hash = toHex(reader.take(32))
      if (hash === chain.genesis.hash) return
      throw new ChoraleError(
        'bad_config',
        `the folder holds a chain with genesis ${hash}, this one is ${chain.genesis.hash}; choose another folder`,
      )
    }
    if (kind === HEAD) {
      chain.setHead(toHex(reader.take(32)))
      const finalized = chain.block(toHex(reader.take(32)))
      if (finalized !== undefined) chain.finalize(finalized.header.number)
      return
    }
    if (kind === PATCH) {
      const hash = toHex(reader.take(32))
      const state = chain.state(hash)
      chain.replaceState(hash, stateOf(readChanges(reader, state?.trie)))
      return
    }
    const block = readBlock(reader)
    if (kind === HISTORY) return chain.addHistory(block)
    if (kind === ANCHOR) return chain.anchor(block, createStateStore(readEntries(reader)))
    if (kind !== BLOCK) throw new Error(`a record of kind ${kind}`)
    const parent = chain.state(toHex(block.header.parentHash))
    if (parent === undefined) throw new Error(`block ${block.header.number} follows no known state`)
    const state = stateOf(readChanges(reader, parent.trie))
    if (toHex(state.root(stateVersion(parent))) !== toHex(block.header.stateRoot)) {
      throw new Error(`the state after block ${block.header.number} has another root than its header says`)
    }
    chain.add(block, state)
    this.#appended++
  }
}

function* snapshotRecords(chain: Chain): Generator<Uint8Array> {
  yield genesisRecord(chain)
  const final = chain.finalized
  for (let number = 1; number < final.header.number; number++) {
    const block = chain.block(chain.hashAt(number) ?? '')
    if (block !== undefined) yield blockRecord(HISTORY, block)
  }
  if (final.header.number > 0) {
    const writer = begin(ANCHOR)
    writeBlock(writer, final)
    const state = chain.state(final.hash)
    writer.compact(state?.size ?? 0)
    for (const [key, value] of state?.entries() ?? []) {
      writeBytes(writer, key)
      writeBytes(writer, value)
    }
    yield writer.finish()
  }
  for (let number = final.header.number + 1; number <= chain.head.header.number; number++) {
    const block = chain.block(chain.hashAt(number) ?? '')
    const parent = block && chain.parent(block)
    if (block === undefined || parent === undefined) continue
    yield blockRecord(
      BLOCK,
      block,
      trieChanges(chain.state(parent.hash)?.trie, chain.state(block.hash)?.trie),
    )
  }
  const head = begin(HEAD)
  head.bytes(hashBytes(chain.head.hash))
  head.bytes(hashBytes(final.hash))
  yield head.finish()
}

function genesisRecord(chain: Chain): Uint8Array {
  const writer = begin(GENESIS)
  writer.bytes(hashBytes(chain.genesis.hash))
  return writer.finish()
}

function blockRecord(kind: number, block: Block, changes?: readonly TrieChange[]): Uint8Array {
  const writer = begin(kind)
  writeBlock(writer, block)
  if (changes !== undefined) writeChanges(writer, changes)
  return writer.finish()
}

function writeBlock(writer: ScaleWriter, block: Block): void {
  writeBytes(writer, encodeHeader(block.header))
  writer.compact(block.extrinsics.length)
  for (const extrinsic of block.extrinsics) writeBytes(writer, extrinsic)
}

function readBlock(reader: ScaleReader): Block {
  const encoded = readBytes(reader)
  const extrinsics = Array.from({ length: reader.count(1) }, () => readBytes(reader))
  return { hash: headerHash(encoded), header: decodeHeader(encoded), extrinsics }
}

function writeChanges(writer: ScaleWriter, changes: readonly TrieChange[]): void {
  writer.compact(changes.length)
  for (const { key, after } of changes) {
    writeBytes(writer, key)
    writer.small(after === undefined ? 0 : 1, 1)
    if (after !== undefined) writeBytes(writer, after)
  }
}

function readChanges(reader: ScaleReader, before: Trie): Trie {
  let trie = before
  for (let left = reader.count(2); left > 0; left--) {
    const key = readBytes(reader)
    trie = reader.small(1, false) === 0 ? trieRemove(trie, key) : trieSet(trie, key, readBytes(reader))
  }
  return trie
}

function* readEntries(reader: ScaleReader): Generator<readonly [Uint8Array, Uint8Array]> {
  for (let left = reader.count(2); left > 0; left--) yield [readBytes(reader), readBytes(reader)]
}

function writeBytes(writer: ScaleWriter, bytes: Uint8Array): void {
  writer.compact(bytes.length)
  writer.bytes(bytes)
}

function readBytes(reader: ScaleReader): Uint8Array {
  return reader.take(reader.count(1))
}

function begin(kind: number): ScaleWriter {
  const writer = new ScaleWriter()
  writer.small(kind, 1)
  return writer
}
