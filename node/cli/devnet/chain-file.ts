import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { createHash } from 'node:crypto'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import type { ChainLog } from '../../../src/ledger/devnet/chain-store.ts'

/** Before each record: its length (u32, little-endian) and the first bytes of its SHA-256. */
const LENGTH_BYTES = 4
const CHECK_BYTES = 8
const HEAD_BYTES = LENGTH_BYTES + CHECK_BYTES
/** A record longer than this is garbage where a length should be: a genesis with its code is a few MiB. */
const MAX_RECORD_BYTES = 2 ** 30
const NAME = 'chain.log'
const LOCK = 'lock'

/**
 * A chain's log in a folder: `chain.log`, appended to as blocks are made. A process that ends loses nothing; a machine
 * that loses power may lose the last blocks, never the rest.
 * @throws `bad_config` when another process uses the folder, or it cannot be written.
 */
export function openChainFile(folder: string): ChainLog {
  const path = join(folder, NAME)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    lock(join(folder, LOCK))
  } catch (error) {
    if (error instanceof ChoraleError) throw error
    throw new ChoraleError('bad_config', `${folder} cannot be used: ${errorMessage(error)}`, { cause: error })
  }
  let file = openSync(path, 'a+', 0o600)
  return {
    read: () => readRecords(file),
    append: (record) => writeAll(file, frame(record)),
    rewrite(records) {
      const temporary = `${path}.new`
      const fresh = openSync(temporary, 'w', 0o600)
      for (const record of records) writeAll(fresh, frame(record))
      fsyncSync(fresh)
      closeSync(fresh)
      renameSync(temporary, path)
      closeSync(file)
      file = openSync(path, 'a+', 0o600)
    },
    close() {
      fsyncSync(file)
      closeSync(file)
      rmSync(join(folder, LOCK), { force: true })
    },
  }
}

/** Whole records from the beginning; what follows them is cut off. */
function* readRecords(file: number): Generator<Uint8Array> {
  let at = 0
  const head = Buffer.alloc(HEAD_BYTES)
  for (;;) {
    if (readFully(file, head, at) < HEAD_BYTES) break
    const length = head.readUInt32LE(0)
    if (length > MAX_RECORD_BYTES) break
    const record = Buffer.alloc(length)
    if (readFully(file, record, at + HEAD_BYTES) < length) break
    if (!checksum(record).equals(head.subarray(LENGTH_BYTES))) break
    at += HEAD_BYTES + length
    yield new Uint8Array(record.buffer, record.byteOffset, length)
  }
  ftruncateSync(file, at)
}

function readFully(file: number, into: Buffer, at: number): number {
  let done = 0
  while (done < into.length) {
    const count = readSync(file, into, done, into.length - done, at + done)
    if (count === 0) break
    done += count
  }
  return done
}

function frame(record: Uint8Array): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32LE(record.length, 0)
  checksum(record).copy(head, LENGTH_BYTES)
  return Buffer.concat([head, record])
}

function checksum(record: Uint8Array): Buffer {
  return createHash('sha256').update(record).digest().subarray(0, CHECK_BYTES)
}

function writeAll(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done)
}

/** Two processes appending to one log would tear it; a lock whose process has ended is taken over. */
function lock(path: string): void {
  if (existsSync(path)) {
    const pid = Number(readFileSync(path, 'utf8'))
    if (Number.isSafeInteger(pid) && pid > 0 && pid !== process.pid && isAlive(pid)) {
      throw new ChoraleError('bad_config', `${path} says that process ${pid} uses this folder`)
    }
    rmSync(path, { force: true })
  }
  writeFileSync(path, String(process.pid), { flag: 'wx', mode: 0o600 })
}

/** Signal 0 asks without sending. A process of another user answers EPERM: it lives. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
