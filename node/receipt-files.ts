import { appendFileSync, closeSync, mkdirSync, openSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ChoraleError, errorMessage } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import {
  encodeStoredReceipt,
  readReceiptFile,
  RECEIPT_FILE_MAGIC,
  type StoredReceipt,
} from '../src/protocol/receipt-file.ts'
import type { ReceiptStore } from '../src/swarm/receipt-store.ts'

export interface ReceiptFilesOptions {
  /** Where the files lie; made when it is not there. */
  readonly folder: string
  readonly log: Logger
  /** Bytes after which a new file begins (default 16 MiB). */
  readonly maxFileBytes?: number
  /** Files kept, the newest ones (default 16). */
  readonly maxFiles?: number
}

const MAX_FILE_BYTES = 16 * 1024 * 1024
const MAX_FILES = 16
const NAME = /^receipts-(\d{6})\.bin$/
/** Receipts are gathered this long and then written at once. */
const WRITE_MS = 200

/**
 * Receipts in files that only grow, `receipts-000001.bin` and on; the oldest are removed. Each process needs a folder of
 * its own. After a crash at most the last fifth of a second is missing; a last entry that was cut short is skipped.
 * @throws `bad_config` when the folder can't be written.
 */
export function receiptFiles(options: ReceiptFilesOptions): ReceiptStore {
  const { folder, log } = options
  const maxFileBytes = options.maxFileBytes ?? MAX_FILE_BYTES
  const maxFiles = options.maxFiles ?? MAX_FILES
  const numbers = (): number[] =>
    readdirSync(folder)
      .flatMap((name) => NAME.exec(name)?.[1] ?? [])
      .map(Number)
      .toSorted((a, b) => a - b)
  const pathOf = (number: number): string => join(folder, `receipts-${String(number).padStart(6, '0')}.bin`)
  let file: { readonly number: number; readonly descriptor: number; bytes: number }
  let waiting: Uint8Array[] = []
  let timer: ReturnType<typeof setTimeout> | undefined
  let closed = false

  const begin = (number: number): void => {
    const descriptor = openSync(pathOf(number), 'ax', 0o600)
    appendFileSync(descriptor, RECEIPT_FILE_MAGIC)
    file = { number, descriptor, bytes: RECEIPT_FILE_MAGIC.length }
    for (const old of numbers().slice(0, -maxFiles)) unlinkSync(pathOf(old))
  }
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    // A new file at each start: the last one may end in the middle of an entry.
    begin((numbers().at(-1) ?? 0) + 1)
  } catch (error) {
    throw new ChoraleError('bad_config', `receipts can't be kept in ${folder}: ${errorMessage(error)}`, {
      cause: error,
      field: 'receipts',
    })
  }

  const write = (): void => {
    clearTimeout(timer)
    timer = undefined
    const parts = waiting
    waiting = []
    if (parts.length === 0) return
    try {
      const bytes = Buffer.concat(parts)
      appendFileSync(file.descriptor, bytes)
      file.bytes += bytes.length
      if (file.bytes < maxFileBytes) return
      closeSync(file.descriptor)
      begin(file.number + 1)
    } catch (error) {
      log.error('receipts could not be written', { folder, reason: errorMessage(error) })
    }
  }

  return {
    add: (receipt) => {
      if (closed) return
      waiting.push(encodeStoredReceipt(receipt))
      timer ??= setTimeout(write, WRITE_MS)
    },
    entries: async () => {
      write()
      const found: StoredReceipt[] = []
      for (const number of numbers()) {
        if (statSync(pathOf(number)).size <= RECEIPT_FILE_MAGIC.length) continue
        found.push(...readReceiptFile(new Uint8Array(await readFile(pathOf(number)))).entries)
      }
      return found
    },
    close: async () => {
      if (closed) return
      write()
      closed = true
      closeSync(file.descriptor)
    },
  }
}
