import { Command } from 'commander'
import { readIdentityFile } from '../identity-file.ts'
import { joinNetwork } from '../join-network.ts'
import { addSubnetFlags, joinSubnet, type SubnetFlags, subnetPlaceOf } from '../join-subnet.ts'
import { stderrLogger } from '../platform.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { DEFAULT_LISTEN } from './serve.ts'

interface BootstrapFlags extends SubnetFlags {
  bootstrap?: string[]
  listen: string[]
  announce?: string[]
  identity?: string
  sponsor?: boolean
  json?: boolean
  verbose?: boolean
}

/** `chorale bootstrap`: a peer that computes nothing and knows who serves what. */
export function bootstrapCommand(): Command {
  const command = new Command('bootstrap')
    .description('run a peer that only introduces others: it keeps the directory and serves no blocks')
    .option('--bootstrap <addrs...>', 'other bootstrap peers of the same network')
    .option('--listen <addrs...>', 'multiaddrs to listen on', [...DEFAULT_LISTEN])
    .option('--announce <addrs...>', 'multiaddrs to tell others instead, behind a proxy or a forwarded port')
    .option('--identity <file>', "keep the peer's key in this file, so that its address stays the same")
  return addSubnetFlags(command, 'admit only peers with stake on this ledger')
    .option(
      '--sponsor',
      'give passes to clients without stake, at the expense of the node this peer belongs to',
    )
    .option('--json', 'print one JSON line per event')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      `
Examples:
  chorale bootstrap --listen /ip4/0.0.0.0/tcp/4001 --identity ~/.config/chorale/bootstrap.key`,
    )
    .action(runBootstrap)
}

async function runBootstrap(flags: BootstrapFlags): Promise<void> {
  const place = subnetPlaceOf(flags)
  const interrupt = catchInterrupt()
  const log = stderrLogger(flags.verbose === true ? 'debug' : 'warn')
  const subnet = place && (await joinSubnet(place, { log }))
  const network = await joinNetwork({
    bootstrap: flags.bootstrap ?? [],
    mode: 'server',
    listen: flags.listen,
    log,
    ...(subnet && { gate: subnet.gate, ...(flags.sponsor === true && { sponsor: {} }) }),
    ...(flags.announce && { announce: flags.announce }),
    ...(flags.identity && { identity: await readIdentityFile(flags.identity) }),
  })
  try {
    const addrs = network.peer.addrs()
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify({ event: 'ready', peerId: network.peer.id, addrs })}\n`)
    } else {
      for (const address of addrs) process.stdout.write(`others join with --bootstrap ${address}\n`)
    }
    await aborted(interrupt.signal)
  } finally {
    await network.close()
    await subnet?.close()
    interrupt.release()
  }
}
