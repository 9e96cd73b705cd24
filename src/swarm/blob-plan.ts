/** Which piece to ask of whom next. Pure: no clock, network or randomness that is not an argument. */

import { type BlobId, type Held, holdsPiece, pieceCount } from '../model/blob.ts'

/** A blob of which pieces are wanted. */
export interface Want extends BlobId {
  /** By piece: 0 not wanted (any more), 1 open, 2 asked for. */
  readonly state: Uint8Array
  /** Nothing is open before this piece. */
  from: number
  /** Undefined until somebody gave it: pieces can't be checked before. */
  list: Uint8Array | undefined
}

export const OPEN = 1
export const ASKED = 2

/** A piece of a blob. */
export interface PieceOf {
  readonly want: Want
  readonly index: number
}

/** Open pieces that are looked at for the rarest: more would cost time at every choice and change little. */
const LOOK_AT = 64
/** Pieces that are passed over because this peer lacks them, before it counts as one that has nothing. */
const PASS_OVER = 4_096

/** Pieces `indices` of a blob, all open. */
export function wantPieces(blob: BlobId, indices: readonly number[], list?: Uint8Array): Want {
  const state = new Uint8Array(pieceCount(blob.byteLength))
  for (const index of indices) state[index] = OPEN
  return { root: blob.root, byteLength: blob.byteLength, state, from: 0, list }
}

/**
 * The open piece to ask of a peer: of the first ones that it has the one that fewest others have, chance among equals.
 * Undefined when it has none of them.
 * @param others what the other peers that answer have
 * @param random in [0, 1)
 */
export function nextPiece(
  wants: readonly Want[],
  own: ReadonlyMap<string, Held>,
  others: readonly ReadonlyMap<string, Held>[],
  random: () => number,
): PieceOf | undefined {
  let best: PieceOf | undefined
  let fewest = Infinity
  let equals = 0
  let looked = 0
  let passed = 0
  for (const want of wants) {
    const held = own.get(want.root)
    while (want.from < want.state.length && want.state[want.from] !== OPEN) want.from++
    if (held === undefined || want.list === undefined) continue
    for (let index = want.from; index < want.state.length; index++) {
      if (want.state[index] !== OPEN) continue
      if (!holdsPiece(held, index)) {
        if (++passed === PASS_OVER) return best
        continue
      }
      const holders = others.reduce((sum, other) => {
        const theirs = other.get(want.root)
        return sum + (theirs !== undefined && holdsPiece(theirs, index) ? 1 : 0)
      }, 0)
      equals = holders === fewest ? equals + 1 : 1
      if (holders < fewest || (holders === fewest && random() * equals < 1)) best = { want, index }
      fewest = Math.min(fewest, holders)
      if (++looked === LOOK_AT) return best
    }
  }
  return best
}

/** Pieces of a want that did not come. */
export function missingOf({ state }: Want): readonly number[] {
  return [...state.keys()].filter((index) => state[index] !== 0)
}
