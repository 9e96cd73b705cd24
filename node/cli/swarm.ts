import type { ModelRecord } from '../../src/routing/snapshot.ts'
import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import type { Directory } from '../../src/session/directory.ts'
import { resolveModel } from '../../src/store/resolve-model.ts'
import { joinNetwork } from '../join-network.ts'
import { readLocalSwarm } from '../local-swarm-file.ts'
import { createModelPorts } from '../model-ports.ts'
import { stderrLogger } from '../platform.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { pictureOf, pictureText, type SwarmPicture } from './swarm/picture.ts'
import { createStyle, write } from './terminal.ts'

interface SwarmFlags {
  bootstrap?: string[]
  json?: boolean
  watch?: boolean
  verbose?: boolean
}

const WATCH_MS = 2_000

/** `chorale swarm`: who serves which blocks. */
export function swarmCommand(): Command {
  return new Command('swarm')
    .description('show which peers serve which blocks')
    .argument('[model]', 'name, id, folder, .gguf file or hub name (default: the model most peers serve)')
    .option('--bootstrap <addrs...>', 'peers that lead into the network (default: the swarm on this machine)')
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
  const bootstrap = flags.bootstrap ?? (await readLocalSwarm())?.bootstrap
  if (bootstrap === undefined) {
    throw new ChoraleError(
      'not_found',
      'no swarm runs on this machine: give --bootstrap ADDR of a network, or start one with npm start',
      { field: 'bootstrap' },
    )
  }
  const interrupt = catchInterrupt()
  const network = await joinNetwork({ bootstrap, mode: 'client', log })
  try {
    const style = createStyle(process.stdout)
    for (;;) {
      const picture = await look(network.directory, reference)
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
    await network.close()
    interrupt.release()
  }
}

async function look(directory: Directory, reference: string | undefined): Promise<SwarmPicture> {
  const models = await directory.models()
  const chosen = reference === undefined ? await busiest(directory, models) : await find(models, reference)
  const records = chosen === undefined ? [] : await directory.servers(chosen.modelId)
  return pictureOf(chosen, models, records, Date.now())
}

/** The model that most peers serve; of equals the first by name. */
async function busiest(
  directory: Directory,
  models: readonly ModelRecord[],
): Promise<ModelRecord | undefined> {
  const counted = models.map(async (model) => ({
    model,
    count: (await directory.servers(model.modelId)).length,
  }))
  const sorted = (await Promise.all(counted)).sort(
    (a, b) => b.count - a.count || (a.model.name < b.model.name ? -1 : 1),
  )
  return sorted[0]?.model
}

/** @throws `not_found` when nobody serves it. */
async function find(models: readonly ModelRecord[], reference: string): Promise<ModelRecord> {
  const named = models.find(({ name, modelId }) => name === reference || modelId === reference)
  if (named !== undefined) return named
  const opened = await resolveModel(reference, createModelPorts()).catch(() => undefined)
  await opened?.close()
  const found = models.find(({ modelId }) => modelId === opened?.id)
  if (found !== undefined) return found
  const known = models.map(({ name }) => name).join(', ')
  throw new ChoraleError(
    'not_found',
    `nobody serves ${reference} in this network; served are: ${known === '' ? 'no models' : known}`,
  )
}
