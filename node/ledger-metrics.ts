import type { Ledger } from '../src/ledger/ledger.ts'
import type { StakeSet } from '../src/ledger/stake-set.ts'
import type { Metrics } from '../src/metrics.ts'

/** How often the ledger is asked how far it is final; blocks take seconds. */
const LOOK_MS = 5_000

/** Shows how a ledger is reached and how far it came. @returns how to stop. */
export function watchLedger(
  metrics: Metrics,
  ledger: Pick<Ledger, 'head' | 'status'>,
  stakes: Pick<StakeSet, 'block' | 'nodes'>,
): () => void {
  let finalised: number | undefined
  const look = (): void => {
    // What keeps it from answering is in the status.
    void ledger.head().then(
      ({ finalizedNumber }) => (finalised = finalizedNumber),
      () => undefined,
    )
  }
  metrics.watch(
    'gauge',
    'chorale_ledger_state',
    '1 in the state that the connection to the ledger’s node is in.',
    () =>
      (['reachable', 'unreachable', 'wrong-chain'] as const).map((state) => [
        ledger.status.state === state ? 1 : 0,
        { state },
      ]),
    ['state'],
  )
  metrics.watch('gauge', 'chorale_ledger_finalised_block', 'Last block of the ledger that is final.', () =>
    finalised === undefined ? [] : [[finalised]],
  )
  metrics.watch(
    'gauge',
    'chorale_ledger_read_block',
    'Block of the ledger that stakes were last read at.',
    () => (stakes.block === undefined ? [] : [[stakes.block]]),
  )
  metrics.watch('gauge', 'chorale_ledger_nodes', 'Nodes of the subnet on the ledger.', () => [
    [stakes.nodes.length],
  ])
  look()
  const timer = setInterval(look, LOOK_MS)
  timer.unref()
  return () => clearInterval(timer)
}
