import type { Ledger } from '../ledger.ts'
import { foundSubnet } from './found-subnet.ts'
import { leaveSubnet } from './leave-subnet.ts'
import { runEpochs } from './run-epochs.ts'
import { type ConformanceOptions, type ConformanceReport, Script } from './script.ts'

/**
 * Runs the life cycle of a subnet against a chain (register, four nodes, delegate, activate, propose, attest, rewards, a bad
 * proposal and its slash, recovery, unbonding, claim) and compares events and balances with `formulas.ts`. It ends at the
 * first step that could not run; steps whose numbers differ fail and the script goes on.
 */
export async function runConformance(
  ledger: Ledger,
  options: ConformanceOptions,
): Promise<ConformanceReport> {
  const script = new Script(ledger, options)
  try {
    const subnet = await foundSubnet(script)
    if (subnet !== undefined && (await runEpochs(script, subnet))) await leaveSubnet(script, subnet)
    return { chain: ledger.info.chain, steps: script.steps, ok: script.steps.every(({ ok }) => ok) }
  } finally {
    script.close()
  }
}
