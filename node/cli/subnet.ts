import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { formatAmount, parseAmount } from '../../src/ledger/amounts.ts'
import { activateSubnet, registerSubnet } from '../../src/ledger/calls.ts'
import { registrationCost } from '../../src/ledger/formulas.ts'
import type { Ledger, Subnet, SubnetNode } from '../../src/ledger/ledger.ts'
import { multiaddrBytes } from '../../src/ledger/multiaddr-bytes.ts'
import { findSubnet } from './ledger/find.ts'
import { toJson } from './ledger/json.ts'
import {
  accountOf,
  type LedgerFlags,
  openLedger,
  openSigner,
  type SigningFlags,
  withLedgerOptions,
  withSigningOptions,
} from './ledger/options.ts'
import { confirmAndSend } from './ledger/send.ts'
import { printable, write } from './terminal.ts'

interface RegisterFlags extends SigningFlags {
  name: string
  repo: string
  description?: string
  misc?: string
  minStake: string
  maxStake: string
  delegateShare: string
  coldkeys: string[]
  bootnodes: string[]
  maxCost?: string
}

const PERCENT = 10n ** 16n
/** The pallet's limits. */
const MIN_COLDKEYS = 3
const MAX_BOOTNODES = 32

/** `chorale subnet`: subnets on the ledger. */
export function subnetCommand(): Command {
  const command = new Command('subnet').description('register, activate, list and show subnets')
  command.addCommand(
    withSigningOptions(new Command('register'))
      .description('register a subnet; the key becomes its owner and pays the registration')
      .requiredOption('--name <name>', 'its name, unique on the chain')
      .requiredOption('--repo <url>', 'where its code is, unique on the chain')
      .option('--description <text>', 'what it does')
      .option('--misc <text>', "its parameters as JSON (Chorale's defaults without)")
      .option('--min-stake <tokens>', 'least stake of a node', '100')
      .option('--max-stake <tokens>', 'most stake of a node', '1000')
      .option('--delegate-share <percent>', "delegators' share of rewards, 5 to 95", '10')
      .requiredOption(
        '--coldkeys <accounts...>',
        'at least three, who may register nodes first; ACCOUNT or ACCOUNT=COUNT',
      )
      .requiredOption('--bootnodes <addrs...>', '1 to 32 multiaddrs that end in /p2p/PEER')
      .option('--max-cost <tokens>', 'refuse when it costs more (default: a tenth more than now)')
      .addHelpText(
        'after',
        '\nExample:\n  chorale subnet register --key savings --name storyteller --repo https://example.org/storyteller \\\n' +
          '    --coldkeys savings 0x3cd0… 0x798d… --bootnodes /dns4/boot.example.org/tcp/443/wss/p2p/12D3Koo…',
      )
      .action(runRegister),
  )
  command.addCommand(
    withSigningOptions(new Command('activate'))
      .description('start a registered subnet that has nodes and delegate stake enough')
      .argument('<subnet>', 'id or name')
      .addHelpText('after', '\nExample:\n  chorale subnet activate storyteller --key savings')
      .action(runActivate),
  )
  command.addCommand(
    withLedgerOptions(new Command('list'))
      .description('list all subnets')
      .addHelpText('after', '\nExample:\n  chorale subnet list --json')
      .action(runList),
  )
  command.addCommand(
    withLedgerOptions(new Command('show'))
      .description('show a subnet and its nodes')
      .argument('[subnet]', 'id or name (default: the only one)')
      .addHelpText('after', '\nExample:\n  chorale subnet show storyteller')
      .action(runShow),
  )
  return command
}

async function runRegister(flags: RegisterFlags): Promise<void> {
  if (flags.bootnodes.length > MAX_BOOTNODES) {
    throw new ChoraleError(
      'bad_config',
      `--bootnodes: at most ${MAX_BOOTNODES}, not ${flags.bootnodes.length}`,
      {
        field: 'bootnodes',
      },
    )
  }
  const bootnodes = flags.bootnodes.map((address) => [peerOf(address), multiaddrBytes(address)] as const)
  const coldkeys = await Promise.all(flags.coldkeys.map(readColdkey))
  if (new Set(coldkeys.map(([account]) => account)).size < MIN_COLDKEYS) {
    throw new ChoraleError('bad_config', `--coldkeys: at least ${MIN_COLDKEYS} different ones are needed`, {
      field: 'coldkeys',
    })
  }
  const { signer } = await openSigner(flags)
  const ledger = await openLedger(flags)
  try {
    const { info } = ledger
    const amount = (text: string, field: string): bigint => parseAmount(text, info.tokenDecimals, field)
    const cost = await currentCost(ledger)
    const maxCost = flags.maxCost === undefined ? cost + cost / 10n : amount(flags.maxCost, 'max-cost')
    if (cost > maxCost) {
      throw new ChoraleError(
        'bad_config',
        `registering costs ${formatAmount(cost, info)} now, more than --max-cost ${flags.maxCost ?? ''}: allow more, or wait (it falls with time)`,
        { field: 'max-cost' },
      )
    }
    const call = registerSubnet(maxCost, {
      name: flags.name,
      repo: flags.repo,
      description: flags.description ?? '',
      misc: flags.misc ?? '',
      minStake: amount(flags.minStake, 'min-stake'),
      maxStake: amount(flags.maxStake, 'max-stake'),
      delegateStakePercentage: readPercent(flags.delegateShare),
      initialColdkeys: coldkeys,
      bootnodes,
    })
    const title = `Register subnet ${flags.name}, owned by ${signer.address}`
    await confirmAndSend(
      ledger,
      signer,
      call,
      { title, amount: maxCost, notes: [`it costs about ${formatAmount(cost, info)}`] },
      flags,
    )
    const made = (await ledger.subnets()).find(({ name }) => name === flags.name)
    if (flags.json !== true && made !== undefined)
      await write(process.stdout, `subnet ${printable(made.name)} has id ${made.id}\n`)
  } finally {
    await ledger.close()
  }
}

async function runActivate(reference: string, flags: SigningFlags): Promise<void> {
  const { signer } = await openSigner(flags)
  const ledger = await openLedger(flags)
  try {
    const subnet = await findSubnet(ledger, reference)
    const nodes = await ledger.nodes(subnet.id)
    await confirmAndSend(
      ledger,
      signer,
      activateSubnet(subnet.id),
      {
        title: `Activate subnet ${subnet.name} (${subnet.id})`,
        notes: [
          `it has ${nodes.length} nodes and ${formatAmount(subnet.delegateStakeBalance, ledger.info)} delegated`,
        ],
      },
      flags,
    )
  } finally {
    await ledger.close()
  }
}

async function runList(flags: LedgerFlags): Promise<void> {
  const ledger = await openLedger(flags)
  try {
    const subnets = await ledger.subnets()
    const text =
      flags.json === true
        ? toJson({ subnets })
        : subnets.length === 0
          ? 'this chain has no subnets: chorale subnet register makes one\n'
          : subnets.map((subnet) => line(subnet, ledger)).join('')
    await write(process.stdout, text)
  } finally {
    await ledger.close()
  }
}

async function runShow(reference: string | undefined, flags: LedgerFlags): Promise<void> {
  const ledger = await openLedger(flags)
  try {
    const subnet = await findSubnet(ledger, reference)
    const nodes = await ledger.nodes(subnet.id)
    await write(
      process.stdout,
      flags.json === true ? toJson({ subnet, nodes }) : subnetText(subnet, nodes, ledger),
    )
  } finally {
    await ledger.close()
  }
}

function line({ id, name, state, delegateStakeBalance }: Subnet, { info }: Ledger): string {
  return `${String(id).padEnd(8)} ${state.padEnd(10)} ${printable(name)}  ${formatAmount(delegateStakeBalance, info)} delegated\n`
}

function subnetText(subnet: Subnet, nodes: readonly SubnetNode[], { info }: Ledger): string {
  const percent = (ratio: bigint): string => `${Number(ratio / (PERCENT / 10n)) / 10} %`
  const head = [
    `subnet      ${printable(subnet.name)} (${subnet.id})`,
    `state       ${subnet.state}${subnet.slot === undefined ? '' : `, epochs begin at block ${subnet.slot} of each ${info.epochBlocks}`}`,
    `owner       ${subnet.owner}`,
    `repo        ${printable(subnet.repo)}`,
    `stake       ${formatAmount(subnet.minStake, info)} to ${formatAmount(subnet.maxStake, info)} a node`,
    `delegated   ${formatAmount(subnet.delegateStakeBalance, info)}`,
    `reputation  ${percent(subnet.reputation)}`,
  ]
  const rows = nodes.map(
    (node) =>
      `node ${String(node.id).padEnd(4)} ${(node.queued ? 'queued' : node.class).padEnd(10)} ${formatAmount(node.stake, info)}` +
      `  ${percent(node.reputation)}  ${printable(node.peerId)}`,
  )
  return `${[...head, ...rows].join('\n')}\n`
}

/** What registering costs in the next block. */
async function currentCost(ledger: Ledger): Promise<bigint> {
  const { number } = await ledger.head()
  const read = async (item: string): Promise<bigint> => {
    const value = await ledger.storage('Network', item, [])
    return typeof value === 'bigint' ? value : BigInt(typeof value === 'number' ? value : 0)
  }
  const [last, least, since, decay] = await Promise.all([
    read('LastRegistrationCost'),
    read('MinRegistrationCost'),
    read('LastSubnetRegistrationBlock'),
    read('RegistrationCostDecayBlocks'),
  ])
  return registrationCost(last, least, number + 1 - Number(since), Number(decay))
}

async function readColdkey(text: string): Promise<readonly [string, number]> {
  const [account = '', count = '1'] = text.split('=')
  if (!/^[1-9]\d{0,3}$/.test(count)) {
    throw new ChoraleError('bad_config', `--coldkeys ${text}: give ACCOUNT or ACCOUNT=COUNT`, {
      field: 'coldkeys',
    })
  }
  return [await accountOf(account), Number(count)]
}

function readPercent(text: string): bigint {
  const tenths = parseAmount(text, 1, 'delegate-share')
  if (tenths < 50n || tenths > 950n) {
    throw new ChoraleError('bad_config', `--delegate-share ${text}: 5 to 95 percent`, {
      field: 'delegate-share',
    })
  }
  return (tenths * PERCENT) / 10n
}

/** The peer at the end of a multiaddr. */
function peerOf(address: string): string {
  return /\/p2p\/([1-9A-HJ-NP-Za-km-z]+)$/.exec(address)?.[1] ?? ''
}
