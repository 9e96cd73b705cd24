import { ChoraleError } from '../src/errors.ts'
import {
  activateSubnet,
  addDelegateStake,
  registerNode,
  registerSubnet,
  transfer,
} from '../src/ledger/calls.ts'
import type { Ledger, LedgerSigner } from '../src/ledger/ledger.ts'
import { multiaddrBytes } from '../src/ledger/multiaddr-bytes.ts'
import { DEFAULT_SUBNET_PARAMETERS, encodeSubnetParameters } from '../src/ledger/subnet-parameters.ts'
import { connectLedger } from '../src/ledger/substrate.ts'
import { devAccount } from '../src/ledger/substrate/dev-accounts.ts'
import { keyFromSecret, signerOf } from '../src/ledger/substrate/key-derivation.ts'
import type { Logger } from '../src/log.ts'
import { type Devnet, startDevnet } from './cli/devnet/start-devnet.ts'

/** The dev chain of a swarm on this machine, with its subnet. */
export interface LocalLedger {
  readonly url: string
  readonly genesisHash: string
  readonly subnetId: number
  /** Makes blocks by itself from now on. Before, epochs wait: who is not up yet must not miss its duty. */
  run(): void
  close(): Promise<void>
}

/** A node to register: who it is, and the secret of the hotkey that signs its duties. */
export interface LocalNode {
  readonly peerId: string
  /** 32 bytes. */
  readonly hotkeySecret: Uint8Array
}

export interface LocalLedgerOptions {
  /** At least three: the pallet's least. */
  readonly nodes: readonly LocalNode[]
  /** The peer through which others join. */
  readonly bootnode: string
  /** A peer that only asks, at the expense of the first node: the gateway. */
  readonly client: string
  /** Milliseconds between blocks once the subnet stands. */
  readonly blockMs: number
  readonly log: Logger
}

/** What nodes stake, and what their hotkeys get for fees, in tokens. */
const STAKE_TOKENS = 200n
const HOTKEY_TOKENS = 10n
const DELEGATE_TOKENS = 1_000n
/** Pays for everything, and owns the subnet. */
const OWNER = 'alith'
const COLDKEYS = ['baltathar', 'charleth', 'dorothy'] as const

/**
 * Starts a dev chain and founds a subnet on it by the same calls as anywhere: nodes of class Validator, active at once.
 * Its keys are public or made here: a ledger for one machine, worth nothing anywhere else.
 */
export async function startLocalLedger(options: LocalLedgerOptions): Promise<LocalLedger> {
  const devnet = await startDevnet({ mode: 'instant', port: 0, logger: options.log })
  try {
    const ledger = await connectLedger(devnet.url, { log: options.log })
    try {
      const subnetId = await found(devnet, ledger, options)
      return {
        url: devnet.url,
        genesisHash: ledger.info.genesisHash,
        subnetId,
        run: () => {
          devnet.node.mode = { everyMs: options.blockMs }
        },
        close: () => devnet.close(),
      }
    } finally {
      await ledger.close()
    }
  } catch (error) {
    await devnet.close()
    throw error
  }
}

async function found(devnet: Devnet, ledger: Ledger, options: LocalLedgerOptions): Promise<number> {
  const { nodes, bootnode, client } = options
  const unit = 10n ** BigInt(ledger.info.tokenDecimals)
  const owner = signerOf(devAccount(OWNER))
  const coldkeys = COLDKEYS.map((name) => signerOf(devAccount(name)))
  const hotkeys = nodes.map(({ hotkeySecret }) => keyFromSecret(hotkeySecret, 'ethereum'))
  const registering = ledger.submit(
    registerSubnet(1_000n * unit, {
      name: 'local',
      repo: 'local',
      description: 'a swarm on one machine',
      misc: encodeSubnetParameters(DEFAULT_SUBNET_PARAMETERS),
      minStake: 100n * unit,
      maxStake: 250n * unit,
      delegateStakePercentage: unit / 10n,
      initialColdkeys: coldkeys.map(({ address }) => [address, Math.ceil(nodes.length / coldkeys.length)]),
      bootnodes: [[bootnode, placeOf(bootnode)]],
    }),
    owner,
  )
  const funding = hotkeys.map(({ address }) => ledger.submit(transfer(address, HOTKEY_TOKENS * unit), owner))
  const [{ events }] = await Promise.all([registering, ...funding])
  const registered = events.find(({ name }) => name === 'SubnetRegistered')
  const subnetId = Number(registered?.data['subnet_id'])
  if (!Number.isSafeInteger(subnetId)) {
    throw new ChoraleError('ledger', 'the dev chain did not register the local subnet')
  }
  await Promise.all(
    nodes.map(({ peerId }, i) =>
      ledger.submit(
        registerNode({
          subnetId,
          hotkey: hotkeys[i]!.address,
          peer: { peerId, multiaddr: placeOf(peerId) },
          // Those that compute nothing belong to the first node, and sponsor at its expense.
          ...(i === 0 && {
            bootnodePeer: { peerId: bootnode, multiaddr: placeOf(bootnode) },
            clientPeer: { peerId: client, multiaddr: placeOf(client) },
          }),
          stake: STAKE_TOKENS * unit,
          maxBurn: unit,
        }),
        coldkeys[i % coldkeys.length] as LedgerSigner,
      ),
    ),
  )
  // Without delegate stake a subnet weighs nothing, and nobody is paid.
  await ledger.submit(addDelegateStake(subnetId, DELEGATE_TOKENS * unit), owner)
  // A subnet may be activated an epoch after it was registered.
  devnet.node.build(ledger.info.epochBlocks + 1)
  await ledger.submit(activateSubnet(subnetId), owner)
  // Classes count from the epoch after.
  devnet.node.build(ledger.info.epochBlocks + 1)
  return subnetId
}

/** Where a peer of this machine is reached; the directory knows the port. */
function placeOf(peerId: string): Uint8Array {
  return multiaddrBytes(`/ip4/127.0.0.1/tcp/4001/p2p/${peerId}`)
}
