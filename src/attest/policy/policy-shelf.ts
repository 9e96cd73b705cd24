import { errorMessage } from '../../errors.ts'
import type { SubnetParameters } from '../../ledger/subnet-parameters.ts'
import { type Logger, silentLogger } from '../../log.ts'
import { contentHash } from '../evidence.ts'
import { instantiate } from './interpreter.ts'
import { MAX_POLICY_BYTES } from './module.ts'
import { openPolicy } from './policy.ts'

/** Port: where a node keeps policy programs, by the SHA-256 of their wasm in lower-case hex. */
export interface PolicyStore {
  load(sha256: string): Promise<Uint8Array | undefined>
  save(sha256: string, wasm: Uint8Array): Promise<void>
}

/** What a node makes of the policy that the ledger names. */
export interface PolicyState {
  /** `none`: the ledger names no program, the formula counts. `missing` and `refused`: nothing is proposed or attested. */
  readonly state: 'none' | 'looking' | 'here' | 'missing' | 'refused'
  readonly sha256: string | undefined
  /** Why it is missing or refused. */
  readonly reason: string | undefined
}

/** The policy programs of a node: its own, and those it got from others because the ledger named them. */
export interface PolicyShelf {
  readonly state: PolicyState
  /**
   * A program by its hash: kept, or from other nodes; undefined when nobody has it. Others are asked again after
   * `RETRY_MS`, whatever asks here.
   */
  load(sha256: string): Promise<Uint8Array | undefined>
  /** What others may be given: what is kept here. */
  get(sha256: string): Promise<Uint8Array | undefined>
  /** Called with what the ledger names now, as often as one likes: gets and checks a new program before it is needed. */
  follow(policy: SubnetParameters['policy']): void
  /** Resolves when nothing is being fetched. */
  idle(): Promise<void>
}

export interface PolicyShelfOptions {
  readonly store: PolicyStore
  /** From other nodes; NOT trusted. */
  readonly fetch: (sha256: string) => Promise<Uint8Array | undefined>
  /** Ends a program that is tried when the node stops. */
  readonly signal?: AbortSignal
  readonly log?: Logger
  /** Milliseconds of a clock that never runs back. */
  readonly now?: () => number
}

/** A program that nobody had a moment ago; the eight nodes asked must not be asked by each of 256 with every block. */
export const RETRY_MS = 5_000

/** An empty shelf over a store. */
export function createPolicyShelf(options: PolicyShelfOptions): PolicyShelf {
  const { store } = options
  const log = (options.log ?? silentLogger).child('policy')
  const now = options.now ?? (() => performance.now())
  const none: PolicyState = { state: 'none', sha256: undefined, reason: undefined }
  let state = none
  /** The one that is used now: read in every epoch. */
  let last: { readonly sha256: string; readonly wasm: Uint8Array } | undefined
  /** What nobody had, and when. Only one: the ledger names one program. */
  let missed: { readonly sha256: string; readonly at: number } | undefined
  const fetching = new Map<string, Promise<Uint8Array | undefined>>()
  let looking: Promise<void> | undefined
  /** Ends what is tried now: only one program runs here, whatever the ledger names meanwhile. */
  let trial = new AbortController()
  let wanted: string | undefined

  const kept = async (sha256: string): Promise<Uint8Array | undefined> => {
    if (last?.sha256 === sha256) return last.wasm
    const wasm = await store.load(sha256)
    // A file that somebody changed is none.
    if (wasm === undefined || contentHash(wasm) !== sha256) return undefined
    return wasm
  }

  const fetchNew = async (sha256: string): Promise<Uint8Array | undefined> => {
    const wasm = await options.fetch(sha256)
    if (wasm === undefined || wasm.length > MAX_POLICY_BYTES || contentHash(wasm) !== sha256) {
      missed = { sha256, at: now() }
      return undefined
    }
    await store.save(sha256, wasm)
    log.info('got a policy program', { sha256, bytes: wasm.length })
    return wasm
  }

  const load = async (sha256: string): Promise<Uint8Array | undefined> => {
    let wasm = await kept(sha256)
    if (wasm === undefined) {
      if (missed?.sha256 === sha256 && now() - missed.at < RETRY_MS) return undefined
      let work = fetching.get(sha256)
      if (work === undefined) {
        work = fetchNew(sha256).finally(() => fetching.delete(sha256))
        fetching.set(sha256, work)
      }
      wasm = await work
    }
    if (wasm !== undefined) last = { sha256, wasm }
    return wasm
  }

  const show = (next: PolicyState): void => {
    if (next.state !== state.state || next.reason !== state.reason || next.sha256 !== state.sha256) {
      if (next.reason === undefined) log.info('policy', { state: next.state, sha256: next.sha256 })
      else {
        log.warn('this node proposes and attests nothing', { sha256: next.sha256, reason: next.reason })
      }
    }
    state = next
  }

  /** @returns undefined when `signal` ended it. */
  const look = async (
    policy: NonNullable<SubnetParameters['policy']>,
    signal: AbortSignal,
  ): Promise<PolicyState | undefined> => {
    const { sha256 } = policy
    try {
      const wasm = await load(sha256)
      if (wasm === undefined) {
        const reason = `the subnet's policy program ${sha256} is on none of the nodes that were asked: give it with --policy FILE`
        return { state: 'missing', sha256, reason }
      }
      // Memory and start function under the ledger's limits: what can't even begin is said now, not in the next epoch.
      const opened = openPolicy(wasm, policy)
      await instantiate(opened.module, opened.limits, { signal })
      return { state: 'here', sha256, reason: undefined }
    } catch (error) {
      if (signal.aborted) return undefined
      return { state: 'refused', sha256, reason: errorMessage(error) }
    }
  }

  return {
    get state() {
      return state
    },
    load,
    get: kept,
    follow: (policy) => {
      const name = policy && `${policy.sha256} ${policy.gas} ${policy.pages}`
      const settled = name === wanted && (state.state === 'here' || state.state === 'refused')
      if (policy === undefined) {
        trial.abort()
        wanted = undefined
        if (state.state !== 'none') show(none)
        return
      }
      if (settled || (looking !== undefined && name === wanted)) return
      if (name !== wanted) show({ state: 'looking', sha256: policy.sha256, reason: undefined })
      wanted = name
      trial.abort()
      trial = new AbortController()
      const ends = options.signal ? AbortSignal.any([trial.signal, options.signal]) : trial.signal
      const work = look(policy, ends).then((found) => {
        if (looking === work) looking = undefined
        // The ledger may name another one by now.
        if (found !== undefined && wanted === name) show(found)
        return undefined
      })
      looking = work
    },
    idle: async () => {
      // A program that another took the place of may still be on its way.
      await looking
      await Promise.allSettled(fetching.values())
      await looking
    },
  }
}

/** Programs kept in memory: the one that counts, the next, and the last. */
const MAX_IN_MEMORY = 4

/** A store that is gone with the process. */
export function memoryPolicies(): PolicyStore {
  const programs = new Map<string, Uint8Array>()
  return {
    load: (sha256) => Promise.resolve(programs.get(sha256)),
    save: (sha256, wasm) => {
      const [oldest] = programs.keys()
      if (programs.size >= MAX_IN_MEMORY && oldest !== undefined) programs.delete(oldest)
      programs.set(sha256, wasm)
      return Promise.resolve()
    },
  }
}
