import type { Ledger, LedgerBlock } from '../ledger/ledger.ts'

/** Calls `work` for the newest block, one call at a time; `work` never rejects. */
export function followBlocks(
  ledger: Ledger,
  work: (block: LedgerBlock) => Promise<void>,
): { stop(): Promise<void> } {
  let latest: LedgerBlock | undefined
  let busy: Promise<void> | undefined
  async function drain(): Promise<void> {
    while (latest !== undefined) {
      const block = latest
      latest = undefined
      await work(block)
    }
    busy = undefined
  }
  const unwatch = ledger.watch((block) => {
    latest = block
    busy ??= drain()
  })
  return {
    async stop() {
      unwatch()
      latest = undefined
      await busy
    },
  }
}
