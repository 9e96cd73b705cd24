import { ChoraleError } from '../../src/errors.ts'
import { createStakeSet } from '../../src/ledger/stake-set.ts'
import { createStakeGate } from '../../src/swarm/stake-gate.ts'
import type { StakedTab } from '../network/join-as-server.ts'
import { browserIdentity, holdIdentity } from '../network/tab-identity.ts'
import type { SubnetView } from '../session/subnet-view.ts'
import { tabLog } from '../session/tab-log.ts'
import { strings } from '../strings.ts'

/** The tab as a node of a subnet, until it is closed; the peer that uses it is closed before. */
export interface TabStake extends StakedTab {
  close(): Promise<void>
}

/**
 * Follows the subnet on its ledger, so that this tab admits whom its stake admits.
 * @throws `refused` with the field `stake` when this browser's peer may not serve; `unreachable`, `timeout`, `ledger`.
 */
export async function openTabStake(view: SubnetView): Promise<TabStake> {
  const identity = await browserIdentity()
  const words = strings.stakeOfTab
  if (!view.nodes.some(({ peerId }) => peerId === identity.peerId)) {
    throw new ChoraleError('refused', words.missing(identity.peerId, view.name), { field: 'stake' })
  }
  if (view.url === undefined) throw new ChoraleError('unreachable', words.noLedger, { field: 'stake' })
  const ended = new AbortController()
  if (!(await holdIdentity(ended.signal))) {
    throw new ChoraleError('refused', words.otherTab, { field: 'stake' })
  }
  const closers: (() => void | Promise<void>)[] = [() => ended.abort()]
  const close = async (): Promise<void> => {
    for (const end of closers.splice(0).reverse()) await end()
  }
  try {
    // The chain's libraries are larger than the rest of the pages: only who serves with stake loads them.
    const { connectLedger } = await import('../../src/ledger/substrate.ts')
    const ledger = await connectLedger(view.url, {
      log: tabLog,
      ...(view.genesisHash !== undefined && { genesisHash: view.genesisHash }),
    })
    closers.push(() => ledger.close())
    const stakes = await createStakeSet({ ledger, subnetId: view.subnetId, log: tabLog })
    closers.push(() => stakes.close())
    const gate = createStakeGate({ stakes })
    closers.push(() => gate.close())
    const may = await gate.resolve(identity.peerId, 'serve')
    if (!may.ok) throw new ChoraleError('refused', may.reason, { field: 'stake' })
    return { identity, gate, close }
  } catch (error) {
    await close()
    throw error
  }
}
