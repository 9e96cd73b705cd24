import { ChoraleError } from '../errors.ts'
import { type BlobShelf, PIECE_BYTES } from '../model/blob.ts'
import { MAX_MANIFEST_BYTES } from '../model/manifest.ts'
import {
  type BlobQuestion,
  encodeHeld,
  MAX_BLOB_QUESTION_BYTES,
  parseBlobQuestion,
} from '../protocol/blob-messages.ts'
import { BLOB_PROTOCOL } from '../protocol/ids.ts'
import { answerBytes } from './bytes-exchange.ts'
import type { Peer } from './peer.ts'
import { createRateLimit } from './rate-limit.ts'
import { createUploadBudget, type UploadLimits } from './upload-limit.ts'

/** A peer that gives others what is on its shelf. */
export interface BlobService {
  /** What went out since the start. */
  readonly sent: { readonly pieces: number; readonly bytes: number }
  /** Pieces that were asked for and refused: the limits. */
  readonly refused: number
  close(): Promise<void>
}

/** Questions of one peer: a fast line asks for 400 pieces a second; each costs little until bytes are sent. */
const PER_SECOND = 400
const BURST = 800
/** Of these, those that are no pieces: they make the disk work for somebody who may want nothing. */
const LOOKUPS_PER_SECOND = 20
const LOOKUPS_BURST = 200
/** Who finds all places taken comes back soon: a piece is sent in a moment. */
const BUSY_MS = 200

/**
 * Gives manifests, lists and pieces to peers with the stake to connect or a pass, inside the limits.
 * What is over them is refused with `capacity` and when to come again.
 * @param now milliseconds of a clock that never runs back.
 */
export async function serveBlobs(
  peer: Peer,
  shelf: BlobShelf,
  limits: UploadLimits,
  now: () => number = () => performance.now(),
): Promise<BlobService> {
  const budget = createUploadBudget(limits, now)
  const lookups = createRateLimit(now)
  const sent = { pieces: 0, bytes: 0 }
  let refused = 0
  peer.metrics.watch('counter', 'chorale_weights_sent_bytes_total', 'Weights given to others.', () => [
    [sent.bytes],
  ])
  peer.metrics.watch(
    'counter',
    'chorale_weights_refused_total',
    'Questions for weights above the upload limit.',
    () => [[refused]],
  )

  /** What `read` gives, paid for with what it can take at most before anything is read. */
  const paid = async (
    from: string,
    most: number,
    read: () => Promise<Uint8Array | undefined>,
  ): Promise<Uint8Array | undefined> => {
    const waitMs = budget.take(from, most)
    if (waitMs > 0) {
      refused++
      throw new ChoraleError('capacity', 'the upload limit is reached', { retryAfterMs: waitMs })
    }
    let used = 0
    try {
      const bytes = await read()
      used = bytes?.length ?? 0
      sent.bytes += used
      return bytes
    } finally {
      budget.giveBack(from, most - used)
    }
  }

  const answer = async (from: string, question: BlobQuestion): Promise<Uint8Array | undefined> => {
    const waitMs = question.ask === 'piece' ? 0 : lookups.take(from, LOOKUPS_PER_SECOND, LOOKUPS_BURST)
    if (waitMs > 0) throw new ChoraleError('capacity', 'too many questions', { retryAfterMs: waitMs })
    switch (question.ask) {
      case 'manifest': {
        const bytes = await shelf.manifest(question.hash)
        if (bytes === undefined || bytes.length > MAX_MANIFEST_BYTES) return undefined
        return await paid(from, bytes.length, async () => bytes)
      }
      case 'have':
        return encodeHeld(await Promise.all(question.roots.map((root) => shelf.have(root))))
      case 'list': {
        const bytes = await shelf.list(question.root)
        return bytes && (await paid(from, bytes.length, async () => bytes))
      }
      case 'piece': {
        const bytes = await paid(from, PIECE_BYTES, () => shelf.piece(question.root, question.index))
        if (bytes !== undefined) sent.pieces++
        return bytes
      }
    }
  }

  const service = await answerBytes(peer, {
    protocol: BLOB_PROTOCOL,
    place: 'blob',
    action: 'connect',
    passes: true,
    maxRequestBytes: MAX_BLOB_QUESTION_BYTES,
    perSecond: PER_SECOND,
    burst: BURST,
    maxAnswers: limits.answers,
    maxAnswersAPeer: limits.peerAnswers,
    busyMs: BUSY_MS,
    answer: async (from, request) => await answer(from, parseBlobQuestion(request)),
  })
  return {
    sent,
    get refused() {
      return refused
    },
    close: () => service.close(),
  }
}
