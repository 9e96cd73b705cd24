import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { formatAmount, parseAmount } from '../../src/ledger/amounts.ts'
import {
  addDelegateStake,
  addStake,
  claimUnbondings,
  removeDelegateStake,
  removeStake,
} from '../../src/ledger/calls.ts'
import type { Ledger, LedgerSigner } from '../../src/ledger/ledger.ts'
import { cooldownBlocks, untilBlock } from './ledger/epochs.ts'
import { findNode, findSubnet } from './ledger/find.ts'
import { toJson } from './ledger/json.ts'
import {
  accountOf,
  openLedger,
  openSigner,
  type SigningFlags,
  withLedgerOptions,
  withSigningOptions,
} from './ledger/options.ts'
import { confirmAndSend } from './ledger/send.ts'
import { stakesOf, stakesText } from './stake/stakes.ts'
import { write } from './terminal.ts'

interface StakeFlags extends SigningFlags {
  subnet?: string
  node?: string
  hotkey?: string
}

/** `chorale stake`: money in nodes and delegate pools. */
export function stakeCommand(): Command {
  const command = new Command('stake').description('stake tokens, take them back, delegate')
  command.addCommand(
    withLedgerOptions(new Command('status'))
      .description('show what an account has staked, delegated and unbonding')
      .argument('[account]', 'address, name of a key, or dev:alith (default: --key)')
      .option('--key <name>', 'key whose account is meant')
      .addHelpText(
        'after',
        '\nExamples:\n  chorale stake status savings\n  chorale stake status 0xf24f… --json',
      )
      .action(runStatus),
  )
  command.addCommand(
    staking('bond', 'stake more for a node; sign with its coldkey')
      .argument('<amount>', 'tokens, like 100 or 100.5')
      .option('--node <id>', "node (default: the key's only one)")
      .addHelpText('after', '\nExample:\n  chorale stake bond 100.5 --key savings --subnet storyteller')
      .action((amount: string, flags: StakeFlags) => signed(flags, (...on) => bond(amount, flags, ...on))),
  )
  command.addCommand(
    staking('unbond', 'begin to take stake back; sign with the coldkey')
      .argument('<amount>', 'tokens, or all')
      .option('--node <id>', "node (default: the key's only one)")
      .option('--hotkey <account>', 'hotkey of a node that was removed')
      .addHelpText(
        'after',
        '\nA live node keeps at least the minimum; remove it first to get all (chorale node remove).\n' +
          '\nExamples:\n  chorale stake unbond 50 --key savings\n  chorale stake unbond all --key savings --hotkey worker1',
      )
      .action((amount: string, flags: StakeFlags) => signed(flags, (...on) => unbond(amount, flags, ...on))),
  )
  command.addCommand(
    withSigningOptions(new Command('claim'))
      .description('take what has cooled down into the free balance')
      .addHelpText('after', '\nExample:\n  chorale stake claim --key savings')
      .action((flags: StakeFlags) => signed(flags, (...on) => claim(flags, ...on))),
  )
  command.addCommand(
    staking('delegate', "put tokens into a subnet's delegate pool, which shares its rewards")
      .argument('<amount>', 'tokens, like 100 or 100.5')
      .addHelpText('after', '\nExample:\n  chorale stake delegate 100 --key savings --subnet storyteller')
      .action((amount: string, flags: StakeFlags) =>
        signed(flags, (...on) => delegate(amount, flags, ...on)),
      ),
  )
  command.addCommand(
    staking('undelegate', "take tokens out of a subnet's delegate pool")
      .argument('<amount>', 'tokens, or all')
      .addHelpText('after', '\nExample:\n  chorale stake undelegate all --key savings --subnet storyteller')
      .action((amount: string, flags: StakeFlags) =>
        signed(flags, (...on) => undelegate(amount, flags, ...on)),
      ),
  )
  return command
}

function staking(name: string, description: string): Command {
  return withSigningOptions(new Command(name))
    .description(description)
    .option('--subnet <id>', 'id or name (default: the only one)')
}

/** Opens key and ledger for `run`, and closes the ledger after it. */
async function signed(
  flags: StakeFlags,
  run: (ledger: Ledger, signer: LedgerSigner) => Promise<void>,
): Promise<void> {
  const { signer } = await openSigner(flags)
  const ledger = await openLedger(flags)
  try {
    await run(ledger, signer)
  } finally {
    await ledger.close()
  }
}

async function runStatus(account: string | undefined, flags: StakeFlags): Promise<void> {
  const named = account ?? flags.key
  if (named === undefined) {
    throw new ChoraleError('bad_config', 'whose stake? give an address, or the name of a key', {
      field: 'account',
    })
  }
  const address = await accountOf(named)
  const ledger = await openLedger(flags)
  try {
    const stakes = await stakesOf(ledger, address)
    await write(process.stdout, flags.json === true ? toJson(stakes) : stakesText(stakes, ledger.info))
  } finally {
    await ledger.close()
  }
}

async function bond(text: string, flags: StakeFlags, ledger: Ledger, signer: LedgerSigner): Promise<void> {
  const amount = parseAmount(text, ledger.info.tokenDecimals)
  const subnet = await findSubnet(ledger, flags.subnet)
  const node = findNode(await ledger.nodes(subnet.id), flags.node, signer.address)
  const after = node.stake + amount
  if (after > subnet.maxStake) {
    throw new ChoraleError(
      'bad_config',
      `node ${node.id} would have ${formatAmount(after, ledger.info)}; ${subnet.name} allows ${formatAmount(subnet.maxStake, ledger.info)} a node`,
      { field: 'amount' },
    )
  }
  await confirmAndSend(
    ledger,
    signer,
    addStake(subnet.id, node.id, node.hotkey, amount),
    {
      title: `Stake ${formatAmount(amount, ledger.info)} for node ${node.id} of subnet ${subnet.name} (${subnet.id})`,
      amount,
      notes: [`the node has ${formatAmount(node.stake, ledger.info)} staked now`],
    },
    flags,
  )
}

async function unbond(text: string, flags: StakeFlags, ledger: Ledger, signer: LedgerSigner): Promise<void> {
  const { info } = ledger
  const subnet = await findSubnet(ledger, flags.subnet)
  const hotkey =
    flags.hotkey === undefined
      ? findNode(await ledger.nodes(subnet.id), flags.node, signer.address).hotkey
      : await accountOf(flags.hotkey)
  const staked = await ledger.storage('Network', 'AccountSubnetStake', [hotkey, subnet.id])
  const stake = typeof staked === 'bigint' ? staked : 0n
  const amount = text === 'all' ? stake : parseAmount(text, info.tokenDecimals)
  if (amount > stake) {
    throw new ChoraleError(
      'bad_config',
      `${formatAmount(amount, info)} is more than the ${formatAmount(stake, info)} staked by hotkey ${hotkey} in ${subnet.name}`,
      { field: 'amount' },
    )
  }
  const live = (await ledger.nodes(subnet.id)).find((node) => node.hotkey === hotkey)
  if (live !== undefined && stake - amount < subnet.minStake) {
    throw new ChoraleError(
      'bad_config',
      `node ${live.id} must keep ${formatAmount(subnet.minStake, info)} and would have ${formatAmount(stake - amount, info)}: take at most ${formatAmount(stake - subnet.minStake, info)}, or remove the node first (chorale node remove)`,
      { field: 'amount' },
    )
  }
  const [blocks, head] = await Promise.all([cooldownBlocks(ledger, 'StakeCooldownEpochs'), ledger.head()])
  await confirmAndSend(
    ledger,
    signer,
    removeStake(subnet.id, hotkey, amount),
    {
      title: `Take back ${formatAmount(amount, info)} of stake in subnet ${subnet.name} (${subnet.id})`,
      notes: [`it can be claimed ${untilBlock(head.number + blocks, head.number, info.blockMs)}`],
    },
    flags,
  )
}

async function claim(flags: StakeFlags, ledger: Ledger, signer: LedgerSigner): Promise<void> {
  const { info } = ledger
  const [unbondings, head] = await Promise.all([ledger.unbondings(signer.address), ledger.head()])
  const ready = unbondings.filter(({ block }) => block <= head.number + 1)
  const [next] = unbondings
  if (ready.length === 0) {
    throw new ChoraleError(
      'ledger',
      next === undefined
        ? `${signer.address} has nothing to claim`
        : `${signer.address} has nothing to claim yet: ${formatAmount(next.amount, info)} ${untilBlock(next.block, head.number, info.blockMs)}`,
      { field: 'unbonding' },
    )
  }
  const sum = ready.reduce((all, { amount }) => all + amount, 0n)
  await confirmAndSend(
    ledger,
    signer,
    claimUnbondings(),
    { title: `Claim ${formatAmount(sum, info)} that has cooled down` },
    flags,
  )
}

async function delegate(
  text: string,
  flags: StakeFlags,
  ledger: Ledger,
  signer: LedgerSigner,
): Promise<void> {
  const amount = parseAmount(text, ledger.info.tokenDecimals)
  const subnet = await findSubnet(ledger, flags.subnet)
  await confirmAndSend(
    ledger,
    signer,
    addDelegateStake(subnet.id, amount),
    {
      title: `Delegate ${formatAmount(amount, ledger.info)} to subnet ${subnet.name} (${subnet.id})`,
      amount,
      notes: [`its pool holds ${formatAmount(subnet.delegateStakeBalance, ledger.info)} now`],
    },
    flags,
  )
}

async function undelegate(
  text: string,
  flags: StakeFlags,
  ledger: Ledger,
  signer: LedgerSigner,
): Promise<void> {
  const { info } = ledger
  const subnet = await findSubnet(ledger, flags.subnet)
  const own = await ledger.delegateStake(signer.address, subnet.id)
  if (own.shares === 0n) {
    throw new ChoraleError('bad_config', `${signer.address} has delegated nothing to ${subnet.name}`, {
      field: 'amount',
    })
  }
  const amount = text === 'all' ? own.balance : parseAmount(text, info.tokenDecimals)
  if (amount > own.balance) {
    throw new ChoraleError(
      'bad_config',
      `${formatAmount(amount, info)} is more than the ${formatAmount(own.balance, info)} delegated to ${subnet.name}`,
      { field: 'amount' },
    )
  }
  const shares = text === 'all' ? own.shares : (own.shares * amount) / own.balance
  const [blocks, head] = await Promise.all([
    cooldownBlocks(ledger, 'DelegateStakeCooldownEpochs'),
    ledger.head(),
  ])
  await confirmAndSend(
    ledger,
    signer,
    removeDelegateStake(subnet.id, shares),
    {
      title: `Take ${formatAmount(amount, info)} out of the delegate pool of ${subnet.name} (${subnet.id})`,
      notes: [`it can be claimed ${untilBlock(head.number + blocks, head.number, info.blockMs)}`],
    },
    flags,
  )
}
