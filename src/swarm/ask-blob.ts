import { digestOf, toHex } from '../model/blob.ts'
import { MAX_MANIFEST_BYTES } from '../model/manifest.ts'
import { encodeBlobQuestion } from '../protocol/blob-messages.ts'
import { BLOB_PROTOCOL } from '../protocol/ids.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { AskBlob, BlobSource } from './blob-source.ts'
import { askBytes } from './bytes-exchange.ts'
import type { Peer } from './peer.ts'

/** Asks over `peer`'s connections. */
export function askBlobOver(peer: Peer): AskBlob {
  return async ({ addrs, peerId }, question, options) =>
    await askBytes(peer, peerId, question, { ...options, protocol: BLOB_PROTOCOL, addrs, action: 'connect' })
}

/** Servers of a model that give weights to others: those that are near first, those that are leaving last. */
export function blobSources(peer: Peer, records: readonly ServerRecord[]): readonly BlobSource[] {
  const measures = peer.measures()
  const rank = ({ peerId, state }: ServerRecord) =>
    (measures.get(peerId)?.rttMs ?? 1_000) + (state === 'draining' ? 1e6 : 0)
  return records
    .filter(({ blobs, peerId, state }) => blobs === true && peerId !== peer.id && state !== 'offline')
    .sort((a, b) => rank(a) - rank(b))
    .map(({ addrs, peerId }) => ({ peerId, addrs }))
}

const MANIFEST_MS = 10_000

/** The bytes of a manifest, of the first peer that has the right ones; undefined when none has. @throws `cancelled`. */
export async function fetchManifest(
  hash: string,
  sources: readonly BlobSource[],
  ask: AskBlob,
  signal?: AbortSignal,
): Promise<Uint8Array | undefined> {
  const question = encodeBlobQuestion({ ask: 'manifest', hash })
  for (const source of sources) {
    const timeout = AbortSignal.timeout(MANIFEST_MS)
    const bytes = await ask(source, question, {
      maxAnswerBytes: MAX_MANIFEST_BYTES,
      timeoutMs: MANIFEST_MS,
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    }).catch(() => undefined)
    signal?.throwIfAborted()
    if (bytes !== undefined && toHex(await digestOf(bytes)) === hash) return bytes
  }
  return undefined
}
