import { errorMessage } from '../errors.ts'
import type { Ledger } from './ledger.ts'
import { leastStake, refused, type StakeRules, type StakeVerdict } from './stake-verdict.ts'
import type { StakeAction } from './subnet-parameters.ts'

/** Proofs of stake asked one by one, for peers that are no node of the set: the subnet's bootnodes, overwatch nodes. */
export interface StakeProofs {
  /** What is known now; undefined when nobody asked, or when it was too long ago. */
  known(peerId: string, action: StakeAction, now: number): StakeVerdict | undefined
  /** Asks the ledger unless the answer is known. Never rejects: what can't be asked is refused. */
  ask(peerId: string, action: StakeAction, rules: StakeRules, now: number): Promise<StakeVerdict>
  /** Asks again about every peer that was proved, and returns those that are no more. What can't be asked stays. */
  refresh(
    rules: StakeRules,
    now: number,
  ): Promise<readonly { readonly peerId: string; readonly action: StakeAction }[]>
  /** Forgets refusals: the ledger changed, and who staked meanwhile need not wait. */
  forgetRefusals(): void
}

export interface StakeProofsOptions {
  readonly ledger: Pick<Ledger, 'proofOfStake'>
  readonly subnetId: number
  /** How long a proof counts, ms. */
  readonly positiveMs: number
  /** How long a refusal counts, ms: short, so that a peer that just staked need not wait. */
  readonly negativeMs: number
}

/** Proofs kept. Stops a crowd of made-up identities from filling the memory. */
const MAX_KNOWN = 4096
/** Questions under way. Stops the same crowd from turning this peer into a flood on the ledger's node. */
const MAX_ASKING = 8
/** Questions of one second, for the same reason. */
const MAX_ASKED_A_SECOND = 20
const BUSY_RETRY_MS = 1_000

/** An empty cache. */
export function createStakeProofs(options: StakeProofsOptions): StakeProofs {
  const { ledger, subnetId, positiveMs, negativeMs } = options
  const answers = new Map<string, { readonly verdict: StakeVerdict; readonly until: number }>()
  const asking = new Map<string, Promise<StakeVerdict>>()

  const known = (peerId: string, action: StakeAction, now: number): StakeVerdict | undefined => {
    if (answers.size === 0) return undefined
    const answer = answers.get(`${action} ${peerId}`)
    return answer !== undefined && answer.until > now ? answer.verdict : undefined
  }

  /** Questions asked since, in the present second. */
  let second = { since: -Infinity, asked: 0 }
  const overdone = (now: number): boolean => {
    if (now - second.since >= 1_000) second = { since: now, asked: 0 }
    return asking.size >= MAX_ASKING || ++second.asked > MAX_ASKED_A_SECOND
  }

  const remember = (key: string, verdict: StakeVerdict, now: number): void => {
    answers.delete(key)
    // The oldest first: the map is in the order of asking.
    if (answers.size >= MAX_KNOWN) for (const oldest of answers.keys()) if (answers.delete(oldest)) break
    answers.set(key, { verdict, until: now + (verdict.ok ? positiveMs : negativeMs) })
  }

  /** @throws what the ledger throws. */
  const prove = async (peerId: string, action: StakeAction, rules: StakeRules): Promise<StakeVerdict> => {
    const minClass = rules.parameters.minClass[action]
    const least = leastStake(rules, action)
    return (await ledger.proofOfStake(subnetId, peerId, minClass, least))
      ? { ok: true, class: minClass, stake: least, ratio: 1 }
      : refused(`${peerId} has no stake in subnet ${subnetId}`)
  }

  return {
    known,
    ask: (peerId, action, rules, now) => {
      const answer = known(peerId, action, now)
      if (answer) return Promise.resolve(answer)
      const key = `${action} ${peerId}`
      const underWay = asking.get(key)
      if (underWay) return underWay
      if (overdone(now)) {
        return Promise.resolve(refused('too many unknown peers ask for admission', BUSY_RETRY_MS))
      }
      const question = (async (): Promise<StakeVerdict> => {
        try {
          const verdict = await prove(peerId, action, rules)
          remember(key, verdict, now)
          return verdict
        } catch (error) {
          return refused(`the ledger can't be asked: ${errorMessage(error)}`, BUSY_RETRY_MS)
        } finally {
          asking.delete(key)
        }
      })()
      asking.set(key, question)
      return question
    },
    refresh: async (rules, now) => {
      const lost: { peerId: string; action: StakeAction }[] = []
      // A copy: answers that are remembered again move to the end.
      for (const [key, { verdict }] of Array.from(answers)) {
        if (!verdict.ok) continue
        const space = key.indexOf(' ')
        const action = key.slice(0, space) as StakeAction
        const peerId = key.slice(space + 1)
        const fresh = await prove(peerId, action, rules).catch(() => undefined)
        if (fresh === undefined) continue
        remember(key, fresh, now)
        if (!fresh.ok) lost.push({ peerId, action })
      }
      return lost
    },
    forgetRefusals: () => {
      for (const [key, { verdict }] of answers) if (!verdict.ok) answers.delete(key)
    },
  }
}
