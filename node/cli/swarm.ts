import { Command } from 'commander'
import { ChoraleError, errorMessage } from '../../src/errors.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import type { Logger } from '../../src/log.ts'
import type { Directory } from '../../src/session/directory.ts'
import { listNetworkModels, type NetworkModel } from '../../src/session/network-models.ts'
import { resolveModel } from '../../src/store/resolve-model.ts'
import { joinNetwork } from '../join-network.ts'
import { addSubnetFlags, type SubnetFlags, type SubnetPlace, subnetPlaceOf } from '../join-subnet.ts'
import { type LocalSwarm, readLocalSwarm } from '../local-swarm-file.ts'
import { createModelPorts } from '../model-ports.ts'
import { stderrLogger } from '../platform.ts'
import { type SubnetView, viewSubnet } from '../subnet-view.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { pictureOf, pictureText, type SwarmPicture } from './swarm/picture.ts'
import { createStyle, write } from './terminal.ts'

interface SwarmFlags extends SubnetFlags {
  bootstrap?: string[]
  json?: boolean
  watch?: boolean
  verbose?: boolean
}

const WATCH_MS = 2_000

/** `chorale swarm`: who serves which blocks. */
export function swarmCommand(): Command {
  const command = new Command('swarm')
    .description('show which peers serve which blocks')
    .argument('[model]', 'name, id, folder, .gguf file or hub name (default: the model most peers serve)')
    .option('--bootstrap <addrs...>', 'peers that lead into the network (default: the swarm on this machine)')
  return addSubnetFlags(
    command,
    'ledger with the stake of its peers (default: that of the swarm on this machine)',
  )
    .option('--json', 'print one JSON document')
    .option('--watch', 'show it again every two seconds until Ctrl-C')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      '\nExamples:\n  chorale swarm\n  chorale swarm --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3… --json',
    )
    .action(runSwarm)
}

async function runSwarm(reference: string | undefined, flags: SwarmFlags): Promise<void> {
  const log = stderrLogger(flags.verbose === true ? 'debug' : 'error')
  const named = subnetPlaceOf(flags)
  const local = flags.bootstrap === undefined ? await readLocalSwarm() : undefined
  const bootstrap = flags.bootstrap ?? local?.bootstrap
  if (bootstrap === undefined) {
    throw new ChoraleError(
      'not_found',
      'no swarm runs on this machine: give --bootstrap ADDR of a network, or start one with npm start',
      { field: 'bootstrap' },
    )
  }
  const interrupt = catchInterrupt()
  const place = named ?? placeOf(local)
  // Without stake of its own: it shows a pass where one is wanted.
  const [network, ledger] = await Promise.all([
    joinNetwork({ bootstrap, mode: 'client', log }),
    place && openLedger(place, log),
  ])
  const subnet = async () => {
    if (place === undefined || ledger === undefined) return undefined
    return await viewSubnet({ ledger, place }).catch((error: unknown) => {
      log.error('the ledger could not be read', { url: place.url, reason: errorMessage(error) })
      return undefined
    })
  }
  try {
    const style = createStyle(process.stdout)
    for (;;) {
      const picture = await look(network.directory, reference, await subnet())
      const text = flags.json === true ? `${JSON.stringify(picture)}\n` : pictureText(picture, style)
      const clear =
        flags.watch === true && flags.json !== true && process.stdout.isTTY ? '\u001B[H\u001B[2J' : ''
      await write(process.stdout, clear + text)
      if (flags.watch !== true) return
      const pause = new Promise<void>((resolve) => setTimeout(resolve, WATCH_MS))
      await Promise.race([pause, aborted(interrupt.signal)])
      if (interrupt.signal.aborted) return
    }
  } finally {
    await ledger?.close()
    await network.close()
    interrupt.release()
  }
}

function placeOf(local: LocalSwarm | undefined): SubnetPlace | undefined {
  if (local?.ledger === undefined || local.subnetId === undefined) return undefined
  const { ledger: url, subnetId, genesisHash } = local
  return { url, subnetId, ...(genesisHash !== undefined && { genesisHash }) }
}

/** Undefined, and a line in the log, where the ledger does not answer: who serves what is still worth showing. */
async function openLedger({ url, genesisHash }: SubnetPlace, log: Logger): Promise<Ledger | undefined> {
  // Loaded now: @polkadot/api takes half a second, and a swarm without a ledger needs none of it.
  const { connectLedger } = await import('../../src/ledger/substrate.ts')
  return await connectLedger(url, { log, ...(genesisHash !== undefined && { genesisHash }) }).catch(
    (error: unknown) => {
      log.error('the ledger does not answer', { url, reason: errorMessage(error) })
      return undefined
    },
  )
}

async function look(
  directory: Directory,
  reference: string | undefined,
  subnet: SubnetView | undefined,
): Promise<SwarmPicture> {
  const models = await listNetworkModels(directory)
  const chosen = reference === undefined ? busiest(models) : await find(models, reference)
  return pictureOf(chosen, models, Date.now(), subnet)
}

/** The model that most peers serve; of equals a complete one, then the first by name. */
function busiest(models: readonly NetworkModel[]): NetworkModel | undefined {
  return models.toSorted((a, b) => b.records.length - a.records.length)[0]
}

/** @throws `not_found` when nobody serves it. */
async function find(models: readonly NetworkModel[], reference: string): Promise<NetworkModel> {
  const named = models.find(({ model: { name, modelId } }) => name === reference || modelId === reference)
  if (named !== undefined) return named
  const opened = await resolveModel(reference, createModelPorts()).catch(() => undefined)
  await opened?.close()
  const found = models.find(({ model }) => model.modelId === opened?.id)
  if (found !== undefined) return found
  const known = models.map(({ model }) => model.name).join(', ')
  throw new ChoraleError(
    'not_found',
    `nobody serves ${reference} in this network; served are: ${known === '' ? 'no models' : known}`,
  )
}
