import {
  type BlobId,
  type BlobShelf,
  hashBlob,
  isPiece,
  PIECE_BYTES,
  pieceCount,
  pieceLength,
} from './blob.ts'
import { describeWeights, type NamedManifest } from './manifest.ts'
import type { Model } from './model.ts'
import { createPartReader, type PartName } from './part-bytes.ts'

/** Parts of a model of this machine, for others. Pieces are read when they are asked for; lists are kept in memory. */
export interface ModelShelf extends BlobShelf {
  /** Reads all of the model and puts it on the shelf. @throws `bad_file`, `cancelled`. */
  addAll(signal?: AbortSignal): Promise<NamedManifest>
  /** Reads these parts and puts them on the shelf; those that are there already are not read again. */
  add(names: readonly PartName[], signal?: AbortSignal): Promise<void>
}

interface Part {
  readonly name: PartName
  readonly blob: BlobId & { readonly list: Uint8Array }
}

/** An empty shelf over `model`, which must stay open. */
export function createModelShelf(model: Model): ModelShelf {
  const reader = createPartReader(model)
  const parts = new Map<string, Part>()
  const manifests = new Map<string, Uint8Array>()
  const put = (name: PartName, blob: Part['blob']): void => void parts.set(blob.root, { name, blob })

  return {
    manifest: async (hash) => manifests.get(hash),
    have: async (root) => {
      const byteLength = parts.get(root)?.blob.byteLength
      return byteLength === undefined ? undefined : { byteLength }
    },
    list: async (root) => parts.get(root)?.blob.list,
    piece: async (root, index) => {
      const part = parts.get(root)
      if (part === undefined || index >= pieceCount(part.blob.byteLength)) return undefined
      const length = pieceLength(part.blob.byteLength, index)
      const bytes = await reader.read(part.name, index * PIECE_BYTES, length)
      // A file that was changed since is not what was promised: nobody should take us for a liar.
      return (await isPiece(part.blob.list, index, bytes)) ? bytes : undefined
    },
    addAll: async (signal) => {
      const named = await describeWeights(model, { ...(signal && { signal }), onPart: put })
      manifests.set(named.hash, named.bytes)
      return named
    },
    add: async (names, signal) => {
      const known = new Set([...parts.values()].map(({ name }) => name))
      for (const name of names.filter((one) => !known.has(one))) {
        put(
          name,
          await hashBlob(await reader.size(name), async (offset, length) => {
            signal?.throwIfAborted()
            return await reader.read(name, offset, length, signal)
          }),
        )
      }
    },
  }
}

/** Several shelves as one; what is added to `shelves` later is on it too. */
export function joinShelves(shelves: readonly BlobShelf[]): BlobShelf {
  const first = async <T>(look: (shelf: BlobShelf) => Promise<T | undefined>): Promise<T | undefined> => {
    for (const shelf of shelves) {
      const found = await look(shelf)
      if (found !== undefined) return found
    }
    return undefined
  }
  return {
    manifest: (hash) => first((shelf) => shelf.manifest(hash)),
    have: (root) => first((shelf) => shelf.have(root)),
    list: (root) => first((shelf) => shelf.list(root)),
    piece: (root, index) => first((shelf) => shelf.piece(root, index)),
  }
}
