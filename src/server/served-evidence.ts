import { type AuditStore, createAuditStore } from '../attest/audit-store.ts'
import { parseReceipt } from '../protocol/receipts.ts'
import type { SessionTap } from '../swarm/span-host.ts'
import type { StakeGate } from '../swarm/stake-gate.ts'

/** What a server keeps of its sessions for the epochs' accounts: an audit store, and the passes its clients came with. */
export interface ServedEvidence {
  /** Told by the sessions (`ServeSpanOptions.tap`). */
  readonly tap: SessionTap
  readonly store: AuditStore
  /** The pass a client last worked with; undefined for clients with stake. */
  passOf(client: string): Uint8Array | undefined
}

/** Clients whose pass is remembered: more than the sessions an audit store keeps. */
const MAX_PASSES = 2_048

/** Nothing yet. `bytes` bounds what is kept of inputs and outputs, default 64 MiB. */
export function createServedEvidence(
  gate: Pick<StakeGate, 'passes'> | undefined,
  bytes?: number,
): ServedEvidence {
  const store = createAuditStore(bytes === undefined ? {} : { maxBytes: bytes })
  const passes = new Map<string, Uint8Array>()

  /** A pass may end before its work is reported: what counts is that it held when the receipt was given. */
  const remember = (client: string): void => {
    const pass = gate?.passes.of(client)?.bytes
    if (pass === undefined) return
    passes.delete(client)
    passes.set(client, pass)
    const [oldest] = passes.keys()
    if (passes.size > MAX_PASSES && oldest !== undefined) passes.delete(oldest)
  }

  return {
    store,
    passOf: (client) => passes.get(client),
    tap: {
      open: (session, opening) => store.open(session, opening),
      step: (session, step) => store.step(session, step),
      inputs: (session, from, to) => store.inputs(session, from, to),
      receipt: (receipt) => {
        remember(parseReceipt(receipt).receipt.client)
        store.receipt(receipt)
      },
    },
  }
}
