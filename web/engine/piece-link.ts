import type { BlobNeed } from '../../src/swarm/blob-fetch.ts'
import { errorMessage } from '../../src/errors.ts'

/** How a worker, which has the cache, gets pieces of weights over the page, which has the network. */

/** Where pieces go, checked. */
export interface PieceSink {
  list(root: string, list: Uint8Array): Promise<void>
  piece(root: string, index: number, bytes: Uint8Array): Promise<void>
}

/** Fetches what peers have of `needs`, until nothing came for `patienceMs`. @returns how many peers gave something. */
export type PieceFetcher = (
  needs: readonly BlobNeed[],
  sink: PieceSink,
  patienceMs: number,
) => Promise<number>

/** What the worker asks of the page. */
export interface PieceCall {
  readonly type: 'wantPieces'
  readonly call: number
  readonly needs: readonly BlobNeed[]
  readonly patienceMs: number
}

/** What the page answers. */
export type PieceReply =
  | { readonly type: 'pieceList'; readonly call: number; readonly root: string; readonly list: Uint8Array }
  | {
      readonly type: 'piece'
      readonly call: number
      readonly root: string
      readonly index: number
      readonly bytes: Uint8Array
    }
  | { readonly type: 'piecesDone'; readonly call: number; readonly peers: number; readonly problem?: string }

/** The worker's end. */
export interface WorkerPieces {
  readonly fetch: PieceFetcher
  receive(reply: PieceReply): void
}

export function createWorkerPieces(post: (call: PieceCall) => void): WorkerPieces {
  const calls = new Map<
    number,
    { sink: PieceSink; kept: Promise<unknown>; resolve(peers: number): void; reject(error: unknown): void }
  >()
  let count = 0
  return {
    fetch: async (needs, sink, patienceMs) =>
      await new Promise<number>((resolve, reject) => {
        const call = ++count
        calls.set(call, { sink, kept: Promise.resolve(), resolve, reject })
        post({ type: 'wantPieces', call, needs, patienceMs })
      }),
    receive: (reply) => {
      const waiting = calls.get(reply.call)
      if (waiting === undefined) return
      const { sink } = waiting
      switch (reply.type) {
        case 'pieceList':
          waiting.kept = waiting.kept.then(() => sink.list(reply.root, reply.list))
          return
        case 'piece':
          waiting.kept = waiting.kept.then(() => sink.piece(reply.root, reply.index, reply.bytes))
          return
        case 'piecesDone':
          calls.delete(reply.call)
          waiting.kept.then(() => {
            if (reply.problem === undefined) waiting.resolve(reply.peers)
            else waiting.reject(new Error(reply.problem))
            return undefined
          }, waiting.reject)
      }
    },
  }
}

/** The page's end: answers calls with what `fetcher` brings. */
export function createPagePieces(
  fetcher: PieceFetcher | undefined,
  post: (reply: PieceReply, transfer: Transferable[]) => void,
): (call: PieceCall) => void {
  return ({ call, needs, patienceMs }) => {
    const sink: PieceSink = {
      list: async (root, list) => post({ type: 'pieceList', call, root, list }, []),
      piece: async (root, index, bytes) => {
        const own = bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
        post({ type: 'piece', call, root, index, bytes: own }, [own.buffer])
      },
    }
    const fetching = fetcher?.(needs, sink, patienceMs) ?? Promise.resolve(0)
    fetching.then(
      (peers) => post({ type: 'piecesDone', call, peers }, []),
      (error: unknown) => post({ type: 'piecesDone', call, peers: 0, problem: errorMessage(error) }, []),
    )
  }
}
