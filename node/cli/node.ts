import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { formatAmount, parseAmount } from '../../src/ledger/amounts.ts'
import { type PeerInfo, registerNode, removeNode } from '../../src/ledger/calls.ts'
import { percentMul } from '../../src/ledger/formulas.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { base58Bytes, multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'
import { findNode, findSubnet } from './ledger/find.ts'
import { accountOf, openLedger, openSigner, type SigningFlags, withSigningOptions } from './ledger/options.ts'
import { confirmAndSend } from './ledger/send.ts'
import { write } from './terminal.ts'

interface NodeFlags extends SigningFlags {
  subnet?: string
  node?: string
  hotkey: string
  peer: string
  addr?: string
  bootnodePeer?: string
  clientPeer?: string
  stake?: string
  maxBurn?: string
}

/** Text of ed25519 and RSA peer ids; the pallet takes 32 to 128 characters. */
const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{32,128}$/
const PEER_BYTES = 32

/** `chorale node`: subnet nodes on the ledger. */
export function nodeCommand(): Command {
  const command = new Command('node').description('register and remove nodes of a subnet')
  command.addCommand(
    withSigningOptions(new Command('register'))
      .description('register a node and stake for it; sign with the coldkey')
      .option('--subnet <id>', 'id or name (default: the only one)')
      .requiredOption('--hotkey <account>', 'who signs for the node: address, or name of a key')
      .requiredOption('--peer <id>', 'peer id of the server (12D3Koo…)')
      .option('--addr <multiaddr>', 'where it is reached, ending in /p2p/PEER')
      .option('--bootnode-peer <id>', 'peer id of its bootnode')
      .option('--client-peer <id>', 'peer id under which its client speaks')
      .option('--stake <tokens>', "what to stake (default: the subnet's least)")
      .option(
        '--max-burn <tokens>',
        'most that may be burnt for registering (default: a tenth more than now)',
      )
      .addHelpText(
        'after',
        '\nExample:\n  chorale node register --key savings --hotkey worker1 --peer 12D3Koo… --stake 100 --subnet storyteller',
      )
      .action(runRegister),
  )
  command.addCommand(
    withSigningOptions(new Command('remove'))
      .description(
        'take a node out of its subnet; its stake can be unbonded then. Sign with coldkey or hotkey',
      )
      .option('--subnet <id>', 'id or name (default: the only one)')
      .option('--node <id>', "node (default: the key's only one)")
      .addHelpText('after', '\nExample:\n  chorale node remove --key savings --node 3')
      .action(runRemove),
  )
  return command
}

async function runRegister(flags: NodeFlags): Promise<void> {
  const peer = peerInfo('peer', flags.peer, flags.addr)
  const hotkey = await accountOf(flags.hotkey)
  const { signer, role } = await openSigner(flags)
  if (role === 'hotkey') {
    throw new ChoraleError(
      'bad_config',
      'a node is registered by its coldkey, which pays the stake: give --key of a coldkey',
      {
        field: 'key',
      },
    )
  }
  const ledger = await openLedger(flags)
  try {
    const { info } = ledger
    const subnet = await findSubnet(ledger, flags.subnet)
    const stake =
      flags.stake === undefined ? subnet.minStake : parseAmount(flags.stake, info.tokenDecimals, 'stake')
    if (stake < subnet.minStake || stake > subnet.maxStake) {
      throw new ChoraleError(
        'bad_config',
        `--stake ${flags.stake ?? ''}: ${subnet.name} wants ${formatAmount(subnet.minStake, info)} to ${formatAmount(subnet.maxStake, info)}`,
        { field: 'stake' },
      )
    }
    const burn = await currentBurn(ledger, subnet.id)
    const maxBurn =
      flags.maxBurn === undefined
        ? burn + burn / 10n
        : parseAmount(flags.maxBurn, info.tokenDecimals, 'max-burn')
    await confirmAndSend(
      ledger,
      signer,
      registerNode({
        subnetId: subnet.id,
        hotkey,
        peer,
        ...(flags.bootnodePeer !== undefined && {
          bootnodePeer: peerInfo('bootnode-peer', flags.bootnodePeer, undefined),
        }),
        ...(flags.clientPeer !== undefined && {
          clientPeer: peerInfo('client-peer', flags.clientPeer, undefined),
        }),
        stake,
        maxBurn,
      }),
      {
        title: `Register ${flags.peer} as a node of subnet ${subnet.name} (${subnet.id}) with ${formatAmount(stake, info)}`,
        amount: stake + maxBurn,
        notes: [`hotkey ${hotkey}`, `about ${formatAmount(burn, info)} of it is burnt`],
      },
      flags,
    )
    const made = (await ledger.nodes(subnet.id)).find((node) => node.hotkey === hotkey)
    if (flags.json !== true && made !== undefined) {
      await write(
        process.stdout,
        `node ${made.id} is ${made.queued ? 'registered and waits in the queue' : made.class}\n`,
      )
    }
  } finally {
    await ledger.close()
  }
}

async function runRemove(flags: NodeFlags): Promise<void> {
  const { signer } = await openSigner(flags)
  const ledger = await openLedger(flags)
  try {
    const subnet = await findSubnet(ledger, flags.subnet)
    const node = findNode(await ledger.nodes(subnet.id), flags.node, signer.address)
    await confirmAndSend(
      ledger,
      signer,
      removeNode(subnet.id, node.id),
      {
        title: `Remove node ${node.id} (${node.peerId}) from subnet ${subnet.name} (${subnet.id})`,
        notes: [
          `its ${formatAmount(node.stake, ledger.info)} of stake stay until they are unbonded:`,
          `chorale stake unbond all --subnet ${subnet.id} --hotkey ${node.hotkey}`,
        ],
      },
      flags,
    )
  } finally {
    await ledger.close()
  }
}

/** What registering a node burns now. */
async function currentBurn(ledger: Ledger, subnetId: number): Promise<bigint> {
  const [base, rate] = await Promise.all([
    ledger.storage('Network', 'BaseNodeBurnAmount', []),
    ledger.storage('Network', 'CurrentNodeBurnRate', [subnetId]),
  ])
  return percentMul(typeof base === 'bigint' ? base : 0n, typeof rate === 'bigint' ? rate : 0n)
}

function peerInfo(field: string, peerId: string, address: string | undefined): PeerInfo {
  if (!PEER_ID.test(peerId) || base58Bytes(peerId).length < PEER_BYTES) {
    throw new ChoraleError('bad_config', `--${field} ${peerId} is no peer id: it looks like 12D3Koo…`, {
      field,
    })
  }
  if (address === undefined) return { peerId }
  if (!address.endsWith(`/p2p/${peerId}`)) {
    throw new ChoraleError('bad_config', `--addr ${address} must end in /p2p/${peerId}`, { field: 'addr' })
  }
  return { peerId, multiaddr: multiaddrBytes(address) }
}
