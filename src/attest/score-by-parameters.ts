import { ChoraleError } from '../errors.ts'
import type { SubnetParameters } from '../ledger/subnet-parameters.ts'
import { openPolicy, runPolicy } from './policy/policy.ts'
import type { ScoreFacts } from './proposal.ts'
import { scoreNodes } from './scores.ts'

/** The wasm of a policy program by its SHA-256 (lower-case hex); undefined when nobody has it. */
export type LoadPolicy = (sha256: string) => Promise<Uint8Array | undefined>

/**
 * The formula that a subnet's parameters ask for: their policy program, else `scoreNodes` with their weights.
 * Scoring throws `not_found` when the program can't be had and `ledger` when it is not what the ledger names, or fails:
 * nobody proposes or attests by another formula.
 * @param signal ends a program that runs: scoring throws `cancelled`.
 */
export function scoreByParameters(
  parameters: SubnetParameters,
  load?: LoadPolicy,
  signal?: AbortSignal,
): ScoreFacts {
  const { policy, score } = parameters
  if (policy === undefined) return async (facts) => scoreNodes(facts, score)
  return async (facts) => {
    const wasm = await load?.(policy.sha256)
    if (wasm === undefined) {
      throw new ChoraleError('not_found', `the subnet's policy program ${policy.sha256} is not here`, {
        field: 'policy',
      })
    }
    return await runPolicy(openPolicy(wasm, policy), facts, signal && { signal })
  }
}
