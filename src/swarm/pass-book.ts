import { ChoraleError } from '../errors.ts'
import type { StakeVerdict } from '../ledger/stake-verdict.ts'
import { type Pass, parsePass } from '../protocol/pass.ts'
import type { Span } from '../session/span-runner.ts'
import { type ClientAccount, createClientAccount } from './client-account.ts'
import { verifySignature } from './identity.ts'
import type { ReportedUse } from './sponsor-accounts.ts'

/** A pass that a client showed to this peer, and what it used here. */
export interface ShownPass {
  readonly id: string
  readonly pass: Pass
  /** As it was shown: the proof of who pays for a client's work. */
  readonly bytes: Uint8Array
  tokens: number
  sessions: number
  /** The tokens by span. */
  readonly work: (ReportedUse & { tokens: number })[]
  /** Of all passes that the client has from this sponsor. */
  readonly account: ClientAccount
}

/** What computes a client's tokens. */
export interface ChargedSpan {
  readonly modelId: string
  readonly span: Span
}

/** A client's account that its sponsor should hear of, and its passes that are good. */
export interface DueAccount {
  readonly sponsor: string
  readonly account: ClientAccount
  readonly passes: readonly ShownPass[]
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
  /** Counts a session of a client, for its pass and its sponsor. */
  useSession(peerId: string): void
  /** Counts tokens of a client, for its pass and its sponsor. @throws `refused` when they are used up, `capacity`. */
  useTokens(peerId: string, tokens: number, by: ChargedSpan): void
  /** How long the client's next message should wait, because its sponsor is behind; in milliseconds. */
  heldMs(peerId: string): number
  /** Accounts that their sponsors should hear of now. */
  due(): DueAccount[]
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
  const accounts = new Map<string, ClientAccount>()
  const steadyNow = (): number => performance.now()

  const dropEnded = (): string[] => {
    const ended = [...shown].filter(([, { pass }]) => pass.expiresAt <= now()).map(([peerId]) => peerId)
    for (const peerId of ended) shown.delete(peerId)
    dropUsed()
    return ended
  }
  const dropUsed = (): void => {
    for (const [name, { pass }] of used) if (pass.expiresAt <= now()) used.delete(name)
    const open = new Set([...used.values()].map(({ account }) => account))
    for (const [name, account] of accounts) if (!open.has(account)) accounts.delete(name)
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
      const holder = `${pass.sponsor} ${pass.audience}`
      const account = accounts.get(holder) ?? createClientAccount(steadyNow)
      const entry = used.get(name) ?? {
        id,
        pass,
        bytes: bytes.slice(),
        tokens: 0,
        sessions: 0,
        work: [],
        account,
      }
      if (entry.pass.audience !== pass.audience) {
        throw new ChoraleError('refused', 'its sponsor gave this nonce to another client', { field: 'nonce' })
      }
      if (!used.has(name)) useOf(pass.sponsor).passes++
      used.set(name, entry)
      accounts.set(holder, entry.account)
      const present = shown.get(peerId)
      if (present === undefined || present.pass.expiresAt <= pass.expiresAt) shown.set(peerId, entry)
      return entry
    },
    clientsOf: (name) => [...shown].filter(([, { pass }]) => pass.sponsor === name).map(([peerId]) => peerId),
    drop: (peerId) => {
      shown.delete(peerId)
    },
    dropEnded,
    useSession: (peerId) => {
      const entry = shown.get(peerId)
      if (entry === undefined) return
      entry.sessions++
      useOf(entry.pass.sponsor).sessions++
    },
    useTokens: (peerId, tokens, { modelId, span }) => {
      const entry = shown.get(peerId)
      if (entry === undefined) return
      const { pass, work, account } = entry
      if (entry.tokens + tokens > pass.tokens) {
        throw new ChoraleError('refused', `the pass was good for ${pass.tokens} tokens: ask for a new one`, {
          field: 'tokens',
        })
      }
      const { start, end } = span
      let use = work.find((one) => one.start === start && one.end === end && one.modelId === modelId)
      if (use === undefined) work.push((use = { modelId, start, end, tokens: 0 }))
      account.charge(pass.tokens, tokens)
      use.tokens += tokens
      entry.tokens += tokens
      useOf(pass.sponsor).tokens += tokens
    },
    heldMs: (peerId) => {
      const entry = shown.get(peerId)
      return entry?.account.heldMs(entry.pass.tokens) ?? 0
    },
    due: () => {
      const found = new Map<ClientAccount, ShownPass[]>()
      for (const entry of used.values()) {
        const { pass, account } = entry
        if (entry.work.length === 0 || pass.expiresAt <= now() || !account.isDue(pass.tokens)) continue
        found.set(account, [...(found.get(account) ?? []), entry])
      }
      return [...found].map(([account, passes]) => ({ sponsor: passes[0]!.pass.sponsor, account, passes }))
    },
    uses: () => [...uses.values()].toSorted((a, b) => b.tokens - a.tokens),
  }
}
