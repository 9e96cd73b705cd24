import { ChoraleError } from '../errors.ts'
import type { StakeVerdict } from '../ledger/stake-verdict.ts'
import { type Pass, parsePass } from '../protocol/pass.ts'
import { verifySignature } from './identity.ts'

/** A pass that a client showed to this peer, and what it used here. */
export interface ShownPass {
  readonly id: string
  readonly pass: Pass
  /** As it was shown: the proof of who pays for a client's work. */
  readonly bytes: Uint8Array
  tokens: number
  sessions: number
}

/** What clients used here at one sponsor's expense, for accounts. */
export interface SponsorUse {
  readonly sponsor: string
  tokens: number
  sessions: number
  passes: number
}

/** The passes that clients showed to this peer. */
export interface PassBook {
  /** The client's pass that is good now. */
  of(peerId: string): ShownPass | undefined
  /** Takes a pass: the newest a client shows counts. @throws `protocol`, `refused`, `capacity`, naming the field. */
  show(peerId: string, bytes: Uint8Array): Promise<ShownPass>
  /** Clients with a pass of this sponsor. */
  clientsOf(sponsor: string): readonly string[]
  /** Forgets a client's pass. */
  drop(peerId: string): void
  /** Forgets passes that ended, and names their clients. */
  dropEnded(): readonly string[]
  /** Counts what a client used, for its pass and its sponsor. */
  use(peerId: string, sessions: number, tokens: number): void
  /** What each sponsor was charged since the start, most first. */
  uses(): readonly SponsorUse[]
}

/** Passes kept: each is a client that was connected lately. Stops a sponsor from filling this peer's memory. */
const MAX_PASSES = 4096
/** Sponsors with accounts; they have stake, so there are no more than nodes on the ledger. */
const MAX_SPONSORS = 4096

/** An empty book. `sponsor` says whether a peer may sponsor now; `now` is the wall clock. */
export function createPassBook(sponsor: (peerId: string) => StakeVerdict, now: () => number): PassBook {
  const shown = new Map<string, ShownPass>()
  /** What was used on passes: showing one again must not begin anew. */
  const used = new Map<string, ShownPass>()
  const uses = new Map<string, SponsorUse>()

  const dropEnded = (): string[] => {
    const ended = [...shown].filter(([, { pass }]) => pass.expiresAt <= now()).map(([peerId]) => peerId)
    for (const peerId of ended) shown.delete(peerId)
    return ended
  }
  const dropUsed = (): void => {
    for (const [name, { pass }] of used) if (pass.expiresAt <= now()) used.delete(name)
  }

  const useOf = (name: string): SponsorUse => {
    let use = uses.get(name)
    if (use === undefined) {
      use = { sponsor: name, tokens: 0, sessions: 0, passes: 0 }
      if (uses.size < MAX_SPONSORS) uses.set(name, use)
    }
    return use
  }

  return {
    of: (peerId) => {
      const found = shown.get(peerId)
      return found !== undefined && found.pass.expiresAt > now() ? found : undefined
    },
    show: async (peerId, bytes) => {
      const { pass, id, signature, signedBytes } = parsePass(bytes, peerId, now())
      const verdict = sponsor(pass.sponsor)
      if (!verdict.ok) {
        throw new ChoraleError('refused', `the pass's sponsor is not admitted: ${verdict.reason}`, {
          field: 'sponsor',
        })
      }
      const name = `${pass.sponsor} ${id}`
      if (!used.has(name) && used.size >= MAX_PASSES) dropUsed()
      if (!used.has(name) && used.size >= MAX_PASSES) {
        throw new ChoraleError('capacity', `this peer knows ${used.size} passes already`, {
          retryAfterMs: 10_000,
        })
      }
      if (!(await verifySignature(pass.sponsor, signedBytes, signature))) {
        throw new ChoraleError('refused', `the pass is not signed by its sponsor ${pass.sponsor}`, {
          field: 'signature',
        })
      }
      // Two may be verified at once; the one that came first keeps its counts.
      const entry = used.get(name) ?? { id, pass, bytes: bytes.slice(), tokens: 0, sessions: 0 }
      if (entry.pass.audience !== pass.audience) {
        throw new ChoraleError('refused', 'its sponsor gave this nonce to another client', { field: 'nonce' })
      }
      if (!used.has(name)) useOf(pass.sponsor).passes++
      used.set(name, entry)
      const present = shown.get(peerId)
      if (present === undefined || present.pass.expiresAt <= pass.expiresAt) shown.set(peerId, entry)
      return entry
    },
    clientsOf: (name) => [...shown].filter(([, { pass }]) => pass.sponsor === name).map(([peerId]) => peerId),
    drop: (peerId) => {
      shown.delete(peerId)
    },
    dropEnded,
    use: (peerId, sessions, tokens) => {
      const entry = shown.get(peerId)
      if (entry === undefined) return
      entry.sessions += sessions
      entry.tokens += tokens
      const use = useOf(entry.pass.sponsor)
      use.sessions += sessions
      use.tokens += tokens
    },
    uses: () => [...uses.values()].toSorted((a, b) => b.tokens - a.tokens),
  }
}
