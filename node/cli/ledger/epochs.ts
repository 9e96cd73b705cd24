import type { Ledger } from '../../../src/ledger/ledger.ts'
import { formatSeconds } from '../terminal.ts'

/** In how long a block comes, for people: `in 80 blocks (about 480 s)`, or `now`. */
export function untilBlock(block: number, head: number, blockMs: number): string {
  const blocks = block - head
  return blocks <= 0 ? 'now' : `in ${blocks} blocks (about ${formatSeconds(blocks * blockMs)})`
}

/** The cool-down of some kind of stake in blocks. */
export async function cooldownBlocks(
  ledger: Ledger,
  item: 'StakeCooldownEpochs' | 'DelegateStakeCooldownEpochs',
): Promise<number> {
  const epochs = await ledger.storage('Network', item, [])
  return (typeof epochs === 'number' ? epochs : 0) * ledger.info.epochBlocks
}
