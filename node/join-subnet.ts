import type { Command } from 'commander'
import { ChoraleError } from '../src/errors.ts'
import type { Ledger } from '../src/ledger/ledger.ts'
import { createStakeSet, type StakeSet } from '../src/ledger/stake-set.ts'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { createStakeGate, type StakeGate } from '../src/swarm/stake-gate.ts'
import { watchLedger } from './ledger-metrics.ts'

/** Where a subnet is: what the flags `--ledger`, `--genesis` and `--subnet` say. */
export interface SubnetPlace {
  /** ws:// or wss:// of a node. */
  readonly url: string
  /** 0x-hex of the chain's first block: a node on another chain is refused. */
  readonly genesisHash?: string
  readonly subnetId: number
}

/** A subnet followed on its ledger, and the gate that admits its peers. */
export interface Subnet {
  readonly place: SubnetPlace
  readonly ledger: Ledger
  readonly stakes: StakeSet
  readonly gate: StakeGate
  /** The peer that uses the gate must be closed before. */
  close(): Promise<void>
}

/**
 * Connects to a ledger and follows a subnet. @throws `unreachable`, `timeout`, `ledger`; `not_found` for a subnet that the
 * ledger does not have.
 */
export async function joinSubnet(
  place: SubnetPlace,
  options: { readonly log: Logger; readonly metrics?: Metrics },
): Promise<Subnet> {
  const { url, genesisHash, subnetId } = place
  const log = options.log.child('ledger')
  // Loaded now: @polkadot/api takes half a second, and a swarm without a ledger needs none of it.
  const { connectLedger } = await import('../src/ledger/substrate.ts')
  const ledger = await connectLedger(url, { log, ...(genesisHash !== undefined && { genesisHash }) })
  try {
    if ((await ledger.subnet(subnetId)) === undefined) {
      throw new ChoraleError('not_found', `${ledger.info.chain} has no subnet ${subnetId}`, {
        field: 'subnet',
      })
    }
    const stakes = await createStakeSet({ ledger, subnetId, log })
    const gate = createStakeGate({ stakes, ...(options.metrics && { metrics: options.metrics }) })
    const unwatch = options.metrics && watchLedger(options.metrics, ledger, stakes)
    return {
      place,
      ledger,
      stakes,
      gate,
      close: async () => {
        unwatch?.()
        gate.close()
        stakes.close()
        await ledger.close()
      },
    }
  } catch (error) {
    await ledger.close()
    throw error
  }
}

export interface SubnetFlags {
  ledger?: string
  genesis?: string
  subnet?: string
}

/** Adds the flags that `subnetPlaceOf` reads. @param ledger what the verb does with the ledger. */
export function addSubnetFlags(command: Command, ledger: string): Command {
  return command
    .option('--ledger <url>', `${ledger}, ws:// or wss:// of a node`)
    .option('--subnet <id>', "the subnet's number on it")
    .option('--genesis <hash>', "hash of the ledger's first block: nodes of another chain are refused")
}

/** Reads `--ledger`, `--genesis`, `--subnet`. Undefined when no ledger is named: everybody is admitted then. @throws `bad_config`. */
export function subnetPlaceOf(flags: SubnetFlags): SubnetPlace | undefined {
  if (flags.ledger === undefined) {
    if (flags.subnet === undefined && flags.genesis === undefined) return undefined
    throw new ChoraleError('bad_config', '--subnet and --genesis need --ledger URL', { field: 'ledger' })
  }
  const subnetId = Number(flags.subnet)
  if (flags.subnet === undefined || !/^\d{1,9}$/.test(flags.subnet)) {
    throw new ChoraleError('bad_config', '--ledger needs --subnet ID, the number of the subnet on it', {
      field: 'subnet',
    })
  }
  if (flags.genesis !== undefined && !/^0x[0-9a-f]{64}$/i.test(flags.genesis)) {
    throw new ChoraleError('bad_config', '--genesis is 0x and 64 hex digits', { field: 'genesis' })
  }
  return {
    url: flags.ledger,
    subnetId,
    ...(flags.genesis !== undefined && { genesisHash: flags.genesis.toLowerCase() }),
  }
}
