import type { Ledger, LedgerBlock, SubnetNode } from '../../../src/ledger/ledger.ts'

/** A ledger on which these peers have stake and nothing ever happens. */
export function stillLedger(peerIds: readonly string[]): Ledger {
  const nodes = peerIds.map((peerId, id): SubnetNode => ({
    id,
    coldkey: '0x',
    hotkey: '0x',
    peerId,
    bootnodePeerId: undefined,
    clientPeerId: undefined,
    class: 'Validator',
    startEpoch: 0,
    // Enough for any rate: what is measured is the check, not the waiting.
    stake: 10n ** 24n,
    reputation: 0n,
    queued: false,
  }))
  const head = { number: 1, hash: '0x1', finalizedNumber: 1, finalizedHash: '0x1' }
  const subnet = {
    id: 1,
    friendlyId: 1,
    name: 'bench',
    repo: '',
    description: '',
    misc: '{"rate": {"sessionsPerMinute": {"base": 1000000}, "messagesPerSecond": {"base": 1000000}}}',
    state: 'Active' as const,
    startEpoch: 0,
    owner: '0x',
    slot: 0,
    minStake: 1n,
    maxStake: 10n ** 30n,
    delegateStakeBalance: 0n,
    reputation: 0n,
  }
  const still: Partial<Ledger> = {
    info: {
      chain: 'bench',
      genesisHash: '0x',
      tokenSymbol: '',
      tokenDecimals: 0,
      accounts: 'ethereum',
      blockMs: 6_000,
      epochBlocks: 0,
      disputes: false,
    },
    status: { state: 'reachable', since: 0 },
    head: async () => head,
    watch: (_listener: (block: LedgerBlock) => void) => () => undefined,
    watchStatus: () => () => undefined,
    subnet: async () => subnet,
    nodes: async () => nodes,
    proofOfStake: async () => false,
  }
  return still as Ledger
}
