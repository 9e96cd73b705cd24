import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'
import type { Directory } from './directory.ts'

/** What several `memoryDirectory` handles share: the network of a test or of a single process. */
export interface MemoryDirectoryState {
  readonly records: Map<string, { readonly record: ServerRecord; readonly model: ModelRecord }>
}

/** An empty network. */
export function memoryDirectoryState(): MemoryDirectoryState {
  return { records: new Map() }
}

/**
 * One peer's view of a directory that lives in this process. `peerId` is whose records `withdraw` takes back.
 * Records are trusted: nothing is signed.
 */
export function memoryDirectory(
  state: MemoryDirectoryState,
  peerId: string,
  now: () => number = Date.now,
): Directory {
  const live = () => [...state.records.values()].filter(({ record }) => record.expiresAt > now())
  return {
    announce: async (record, model) => {
      const key = `${record.modelId}\n${record.peerId}`
      const known = state.records.get(key)
      if (known === undefined || known.record.issuedAt <= record.issuedAt) {
        state.records.set(key, { record, model })
      }
    },
    withdraw: async (modelId) => {
      state.records.delete(`${modelId}\n${peerId}`)
    },
    servers: async (modelId) =>
      live()
        .map(({ record }) => record)
        .filter((record) => record.modelId === modelId && record.state !== 'offline'),
    models: async () => {
      const models = new Map(live().map(({ model }) => [model.modelId, model]))
      return [...models.values()]
    },
  }
}
