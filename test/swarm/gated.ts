import type { SubnetNode } from '../../src/ledger/ledger.ts'
import { createStakeSet, type StakeSet } from '../../src/ledger/stake-set.ts'
import { createIdentity, type Identity } from '../../src/swarm/identity.ts'
import type { Peer, PeerOptions } from '../../src/swarm/peer.ts'
import { createStakeGate, type StakeGate, type StakeGateOptions } from '../../src/swarm/stake-gate.ts'
import { FAKE_SUBNET, type FakeLedger, fakeLedger, networkEvent } from '../ledger/fake-ledger.ts'
import { loopbackPeer } from './loopback.ts'

/** Peers over one scripted ledger, each with a gate of its own; `close` ends everything. */
export interface GatedSwarm {
  readonly ledger: FakeLedger
  /** A peer with a gate; staked unless `node` is false. */
  peer(
    options?: Partial<PeerOptions> & {
      readonly node?: Partial<SubnetNode> | false
      readonly gated?: boolean
      readonly gateOptions?: Partial<StakeGateOptions>
    },
  ): Promise<Peer>
  gateOf(peer: Peer): StakeGate
  /** Takes a peer's node off the ledger, in one block. */
  unstake(peer: Peer): void
  readonly sets: readonly StakeSet[]
  close(): Promise<void>
}

export function gatedSwarm(): GatedSwarm {
  const ledger = fakeLedger()
  const sets: StakeSet[] = []
  const closers: (() => Promise<void> | void)[] = []
  const ids = new Map<string, number>()
  let nextId = 1

  const stake = (identity: Identity, node: Partial<SubnetNode>): void => {
    const id = nextId++
    ids.set(identity.peerId, id)
    ledger.register({ ...node, id, peerId: identity.peerId })
  }

  return {
    ledger,
    sets,
    peer: async ({ node = {}, gated = true, gateOptions = {}, ...options } = {}) => {
      const identity = options.identity ?? (await createIdentity())
      if (node !== false) stake(identity, node)
      if (!gated) {
        const open = await loopbackPeer({ ...options, identity })
        closers.push(() => open.close())
        return open
      }
      const stakes = await createStakeSet({ ledger, subnetId: FAKE_SUBNET, pulseMs: 1_000 })
      const gate = createStakeGate({ stakes, ...gateOptions })
      sets.push(stakes)
      const peer = await loopbackPeer({ ...options, identity, gate })
      closers.push(async () => {
        await peer.close()
        gate.close()
        stakes.close()
      })
      return peer
    },
    gateOf: (peer) => {
      if (peer.gate === undefined) throw new Error('this peer has no gate')
      return peer.gate
    },
    unstake: (peer) => {
      const id = ids.get(peer.id)
      if (id === undefined) throw new Error('this peer has no stake')
      ledger.remove(id)
    },
    close: async () => {
      for (const close of closers.splice(0).toReversed()) await close()
    },
  }
}

/** New parameters for the subnet, in one block. */
export function setParameters(ledger: FakeLedger, parameters: object): void {
  ledger.subnetFields = { ...ledger.subnetFields, misc: JSON.stringify(parameters) }
  ledger.mine([networkEvent('SubnetMiscUpdate')])
}
