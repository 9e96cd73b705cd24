import {
  activateSubnet,
  addDelegateStake,
  registerNode,
  registerSubnet,
  transfer,
} from '../../../src/ledger/calls.ts'
import type { DevNode } from '../../../src/ledger/devnet/dev-node.ts'
import type { Ledger, LedgerCall, LedgerSigner } from '../../../src/ledger/ledger.ts'
import { multiaddrBytes } from '../../../src/ledger/multiaddr-bytes.ts'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import { keyFromSecret, signerOf } from '../../../src/ledger/substrate/key-derivation.ts'

export const UNIT = 10n ** 18n
export const owner = signerOf(devAccount('alith'))
export const COLDKEYS = ['baltathar', 'charleth', 'dorothy', 'ethan', 'faith'].map((name) =>
  signerOf(devAccount(name)),
)
/** The hotkey of the node of that number, from 0. */
export const HOTKEYS: readonly LedgerSigner[] = COLDKEYS.map((_, i) =>
  signerOf(keyFromSecret(new Uint8Array(32).fill(i + 1), 'ethereum')),
)

/** The call that registers a peer as the `i`th node, to be signed by `COLDKEYS[i]`. */
export function registration(subnetId: number, i: number, peerId: string, client?: string): LedgerCall {
  return registerNode({
    subnetId,
    hotkey: HOTKEYS[i]!.address,
    peer: { peerId, multiaddr: placeOf(peerId) },
    ...(client !== undefined && { clientPeer: { peerId: client, multiaddr: placeOf(client) } }),
    stake: 200n * UNIT,
    maxBurn: UNIT,
  })
}

/**
 * A subnet with one node for each peer, active, its classes counting; the first node's client is `client`. The dev node
 * must make blocks by itself.
 */
export async function foundSubnet(
  node: DevNode,
  ledger: Ledger,
  peers: readonly string[],
  options: { readonly client?: string; readonly misc?: string } = {},
): Promise<number> {
  const registering = ledger.submit(
    registerSubnet(1_000n * UNIT, {
      name: 'faults',
      repo: 'faults',
      description: '',
      misc: options.misc ?? '{}',
      minStake: 100n * UNIT,
      maxStake: 250n * UNIT,
      delegateStakePercentage: UNIT / 10n,
      initialColdkeys: COLDKEYS.map(({ address }) => [address, 1]),
      bootnodes: [[peers[0]!, placeOf(peers[0]!)]],
    }),
    owner,
  )
  const funding = HOTKEYS.map(({ address }) => ledger.submit(transfer(address, 10n * UNIT), owner))
  const [{ events }] = await Promise.all([registering, ...funding])
  const subnetId = events.find(({ name }) => name === 'SubnetRegistered')!.data['subnet_id'] as number
  await Promise.all(
    peers.map((peerId, i) =>
      ledger.submit(registration(subnetId, i, peerId, i === 0 ? options.client : undefined), COLDKEYS[i]!),
    ),
  )
  await ledger.submit(addDelegateStake(subnetId, 1_000n * UNIT), owner)
  node.build(ledger.info.epochBlocks + 1)
  await ledger.submit(activateSubnet(subnetId), owner)
  node.build(ledger.info.epochBlocks + 1)
  return subnetId
}

/** Goes on to an epoch for which none of these nodes is elected: the elected one must stay. */
export async function notElected(
  node: DevNode,
  ledger: Ledger,
  subnetId: number,
  nodes: readonly number[],
): Promise<void> {
  const { epochBlocks } = ledger.info
  const { slot = 0 } = (await ledger.subnet(subnetId))!
  const elected = (): Promise<number | undefined> =>
    ledger.electedNode(subnetId, Math.floor((node.chain.head.header.number - slot) / epochBlocks))
  while (nodes.includes((await elected()) ?? -1)) node.build(epochBlocks)
}

function placeOf(peerId: string): Uint8Array {
  return multiaddrBytes(`/ip4/127.0.0.1/tcp/4001/p2p/${peerId}`)
}
