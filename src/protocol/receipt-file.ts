import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField } from './fields.ts'
import { MAX_OPENING_BYTES, MAX_RECEIPT_BYTES, MAX_RECEIPT_STEPS } from './limits.ts'
import type { ReceiptBytes } from './receipts.ts'
import { SIGNATURE_BYTES } from './signed.ts'

/** A receipt with what belongs to it, as it is kept and exported. */
export interface StoredReceipt extends ReceiptBytes {
  /** The client's signature that it agrees; absent where it never came. */
  readonly ack?: Uint8Array
  /** The signed opening of the session; kept with its first receipt. */
  readonly opening?: Uint8Array
}

/** How a file of receipts begins; each entry follows as u32 LE length and a CBOR map. */
export const RECEIPT_FILE_MAGIC: Uint8Array = new TextEncoder().encode('chorale-receipts-1\n')

const MAX_ENTRY_BYTES = MAX_RECEIPT_BYTES + MAX_RECEIPT_STEPS * 76 + MAX_OPENING_BYTES + 512
const LENGTH_BYTES = 4

/** An entry as it is appended to a file. */
export function encodeStoredReceipt({ signed, steps, ack, opening }: StoredReceipt): Uint8Array {
  const entry = encodeCbor({ signed, steps, ...(ack && { ack }), ...(opening && { opening }) })
  const bytes = new Uint8Array(LENGTH_BYTES + entry.length)
  new DataView(bytes.buffer).setUint32(0, entry.length, true)
  bytes.set(entry, LENGTH_BYTES)
  return bytes
}

/**
 * Reads a file of receipts. A last entry that was cut short, as by a crash, is left out and counted in `cutBytes`.
 * NOT checked: what the receipts say; see `checkReceipts`.
 * @throws `bad_file` where the file is none, or holds something else.
 */
export function readReceiptFile(bytes: Uint8Array): {
  readonly entries: readonly StoredReceipt[]
  readonly cutBytes: number
} {
  if (RECEIPT_FILE_MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw new ChoraleError(
      'bad_file',
      'this is no file of receipts: it does not begin with chorale-receipts-1',
    )
  }
  const entries: StoredReceipt[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let at = RECEIPT_FILE_MAGIC.length
  while (at + LENGTH_BYTES <= bytes.length) {
    const length = view.getUint32(at, true)
    if (length === 0 || length > MAX_ENTRY_BYTES) {
      throw new ChoraleError(
        'bad_file',
        `entry ${entries.length} at byte ${at} has ${length} bytes (1 to ${MAX_ENTRY_BYTES} allowed)`,
        { field: 'length' },
      )
    }
    const end = at + LENGTH_BYTES + length
    if (end > bytes.length) break
    entries.push(readEntry(bytes.subarray(at + LENGTH_BYTES, end), entries.length))
    at = end
  }
  return { entries, cutBytes: bytes.length - at }
}

function readEntry(bytes: Uint8Array, index: number): StoredReceipt {
  try {
    const map = decodeCborMap(bytes, 'entry')
    return {
      signed: bytesField(map, 'signed', 1, MAX_RECEIPT_BYTES),
      steps: bytesField(map, 'steps', 0, MAX_RECEIPT_STEPS * 76),
      ...(map['ack'] !== undefined && { ack: bytesField(map, 'ack', SIGNATURE_BYTES, SIGNATURE_BYTES) }),
      ...(map['opening'] !== undefined && { opening: bytesField(map, 'opening', 1, MAX_OPENING_BYTES) }),
    }
  } catch (error) {
    const reason = error instanceof ChoraleError ? error.message : String(error)
    throw new ChoraleError('bad_file', `entry ${index}: ${reason}`, {
      cause: error,
      ...(error instanceof ChoraleError && error.field !== undefined && { field: error.field }),
    })
  }
}
