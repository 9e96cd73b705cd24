import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from '../../../src/log.ts'
import { splitEvenly } from '../../../src/session/trace.ts'
import { createIdentity, type Identity } from '../../../src/swarm/identity.ts'
import type { SubnetPlace } from '../../join-subnet.ts'
import { LOOPBACK, startOfflineSwarm } from '../../offline-swarm.ts'

/** Server processes of an offline swarm; the Network pallet asks for three nodes at least. */
const SERVERS = 3
/** Time between blocks of its ledger: an epoch of 20 blocks takes 40 s. */
const BLOCK_MS = 2_000

/** A swarm on this machine with its own ledger. */
export interface PrivateSwarm {
  /** Addresses of the bootstrap peer. */
  readonly bootstrap: readonly string[]
  /** Its subnet on the dev chain that this process runs. */
  readonly subnet: SubnetPlace
  /** A peer that the subnet knows as a client. */
  readonly client: Identity
  stop(): Promise<void>
}

/**
 * A swarm on loopback that serves all blocks of one model, every server staked on an embedded dev chain. Same errors as
 * `startOfflineSwarm`.
 */
export async function startPrivateSwarm(options: {
  readonly reference: string
  readonly revision: string | undefined
  readonly blockCount: number
  readonly engine: string
  readonly signal: AbortSignal
  readonly log: Logger
  readonly onReady: (ready: number, total: number) => void
}): Promise<PrivateSwarm> {
  const { signal, log } = options
  const folder = await mkdtemp(join(tmpdir(), 'chorale-swarm-'))
  const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true })]
  const stop = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    const [bootstrap, client, ...servers] = await Promise.all(
      Array.from({ length: 2 + SERVERS }, (_, index) => writeKeys(folder, index)),
    )
    // Loaded now: the chain's libraries take half a second, and most verbs need none of them.
    const { startLocalLedger } = await import('../../local-ledger.ts')
    const ledger = await startLocalLedger({
      nodes: servers.map(({ identity, hotkeySecret }) => ({ peerId: identity.peerId, hotkeySecret })),
      bootnode: bootstrap!.identity.peerId,
      client: client!.identity.peerId,
      blockMs: BLOCK_MS,
      log,
    })
    closers.push(() => ledger.close())
    const { url, genesisHash, subnetId } = ledger
    const place = ['--ledger', url, '--genesis', genesisHash, '--subnet', String(subnetId)]
    const swarm = await startOfflineSwarm({
      model: options.reference,
      spans: splitEvenly(options.blockCount, SERVERS),
      engine: options.engine,
      // Several processes share the cores; more threads each would only take turns.
      threads: 1,
      bootstrapArgs: ['--listen', ...LOOPBACK, '--identity', bootstrap!.identityFile, ...place, '--sponsor'],
      serveArgs: [
        ...place,
        // Pages of this machine have no stake: the servers admit them at their own expense.
        '--sponsor',
        ...(options.revision === undefined ? [] : ['--revision', options.revision]),
      ],
      serverArgs: (index) => [
        '--identity',
        servers[index]!.identityFile,
        '--hotkey',
        servers[index]!.hotkeyFile,
        '--duty-files',
        folder,
      ],
      signal,
      onReady: options.onReady,
    })
    closers.push(() => swarm.stop())
    ledger.run()
    return {
      bootstrap: swarm.bootstrap,
      subnet: { url, genesisHash, subnetId },
      client: client!.identity,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Draws the keys of one peer and writes those that a child process needs; the folder is this user's alone. */
async function writeKeys(folder: string, index: number) {
  const seed = crypto.getRandomValues(new Uint8Array(32))
  const hotkeySecret = crypto.getRandomValues(new Uint8Array(32))
  const identityFile = join(folder, `peer-${index}.key`)
  const hotkeyFile = join(folder, `hotkey-${index}.key`)
  await writeFile(identityFile, `${Buffer.from(seed).toString('hex')}\n`, { mode: 0o600 })
  await writeFile(hotkeyFile, `${Buffer.from(hotkeySecret).toString('hex')}\n`, { mode: 0o600 })
  return { identity: await createIdentity(seed), identityFile, hotkeySecret, hotkeyFile }
}
