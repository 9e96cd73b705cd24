import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Engine, EngineSpan } from '../../../src/engine/engine.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { assertNotColdkey, decryptKey } from '../../../src/ledger/keys/key-file.ts'
import type { LedgerInfo, LedgerSigner } from '../../../src/ledger/ledger.ts'
import { keyFromSecret, keyFromSeed, signerOf } from '../../../src/ledger/substrate/key-derivation.ts'
import type { Logger } from '../../../src/log.ts'
import type { Metrics } from '../../../src/metrics.ts'
import type { Model } from '../../../src/model/model.ts'
import { type Duties, type DutiesOptions, startDuties } from '../../../src/server/attest-service.ts'
import type { DutiesState } from '../../../src/server/duties-state.ts'
import { createJudgeSpans } from '../../../src/server/judge-span.ts'
import type { ProofStore } from '../../../src/server/proof-store.ts'
import type { ServedEvidence } from '../../../src/server/served-evidence.ts'
import type { ServingServer } from '../../../src/server/server.ts'
import { stateFolder } from '../../folders.ts'
import type { Network } from '../../join-network.ts'
import type { Subnet } from '../../join-subnet.ts'
import { readKey } from '../../keystore-files.ts'
import { readPassword } from '../key/password.ts'
import { blockBytes } from './block-budget.ts'
import { forgetOldest, readIfThere, writeWhole } from './kept-files.ts'
import { policyFiles } from './policy-files.ts'

export interface ServeDutiesOptions {
  readonly network: Network
  readonly subnet: Subnet
  readonly hotkey: LedgerSigner
  readonly model: Model
  readonly engine: Engine
  readonly server: ServingServer
  readonly evidence: ServedEvidence
  /** Where reports and proofs lie; default: the state folder. */
  readonly folder?: string
  /** A program that may take the place of the score's formula, beside those that were kept before. */
  readonly policy?: { readonly sha256: string; readonly wasm: Uint8Array }
  /** Bytes that a span of others may take beside the served one, while it is judged. */
  readonly maxJudgeBytes: number
  readonly metrics?: Metrics
  readonly log: Logger
  readonly onState?: (state: DutiesState) => void
}

/** Raw secrets have 64 hex digits; anything else is a key file. */
const SECRET = /^(?:0x)?([0-9a-f]{64})\s*$/i
/** A report is at most 192 KiB, a fault proof 32 MiB. */
const KEPT_REPORTS = 8
const KEPT_PROOFS = 16

/**
 * The key that signs a node's duties: 64 hex digits in a file that only its owner can read, or a key file of
 * `chorale key` with its password from CHORALE_KEY_PASSWORD, or asked for. Raw digits are a secp256k1 secret where accounts
 * are Ethereum's, else the seed of an sr25519 key.
 * @throws `bad_config`, `bad_file`, `not_found`, `refused` for a coldkey and for a wrong password.
 */
export async function readHotkey(path: string, accounts: LedgerInfo['accounts']): Promise<LedgerSigner> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const secret = SECRET.exec(text)?.[1]
  if (secret !== undefined) {
    const { mode } = await stat(path)
    if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
      throw new ChoraleError('bad_file', `${path} can be read by others: chmod 600 ${path}`, {
        field: 'hotkey',
      })
    }
    const bytes = Uint8Array.from(Buffer.from(secret, 'hex'))
    return signerOf(
      accounts === 'ethereum' ? keyFromSecret(bytes, 'ethereum') : keyFromSeed(bytes, 'sr25519'),
    )
  }
  const { file, name } = await readKey(path)
  assertNotColdkey(file, 'chorale serve')
  const password = await readPassword({}, `Password of ${file.role} ${name}: `)
  return signerOf(keyFromSecret(await decryptKey(file, password), file.kind))
}

/** Starts the duties of `chorale serve`. Reports and proofs lie in files, by chain, subnet and peer. */
export async function startServeDuties(options: ServeDutiesOptions): Promise<Duties> {
  const { engine, evidence, hotkey, log, model, network, server, subnet } = options
  const { blockCount, hiddenSize } = model.spec
  const record = { modelId: model.id, name: model.name, blockCount, hiddenSize }
  const { genesisHash } = subnet.ledger.info
  const place = `${genesisHash.slice(2, 18)}-${subnet.place.subnetId}-${network.peer.id}`
  const folder = join(options.folder ?? join(stateFolder(), 'duties'), place)
  const policies = policyFiles(join(folder, 'policies'))
  if (options.policy) await policies.save(options.policy.sha256, options.policy.wasm)
  return await startDuties({
    peer: network.peer,
    directory: network.directory,
    ledger: subnet.ledger,
    stakes: subnet.stakes,
    signer: hotkey,
    model: record,
    evidence,
    log,
    ownReports: reportFiles(join(folder, 'reports')),
    proofs: proofFiles(join(folder, 'proofs')),
    policies,
    loadSpan: createJudgeSpans({
      peerId: network.peer.id,
      model: record,
      engine: engine.name,
      host: () => server.host,
      load: (span, kvTokens): Promise<EngineSpan> => engine.loadSpan(model, { ...span, kvTokens }),
      bytesOf: ({ start, end }, kvTokens) => blockBytes(model, kvTokens) * (end - start),
      maxBytes: options.maxJudgeBytes,
      queued: () => server.queued,
    }),
    ...(options.metrics && { metrics: options.metrics }),
    ...(options.onState && { onState: options.onState }),
  })
}

/** Own reports, one file an epoch. */
export function reportFiles(folder: string): NonNullable<DutiesOptions['ownReports']> {
  const path = (epoch: number) => join(folder, `${String(epoch).padStart(10, '0')}.report`)
  return {
    load: (epoch) => readIfThere(path(epoch)),
    save: async (epoch, bytes) => {
      await writeWhole(folder, path(epoch), bytes)
      await forgetOldest(folder, KEPT_REPORTS, 'name')
    },
  }
}

/** Fault proofs by content address. */
export function proofFiles(folder: string): ProofStore {
  const path = (hash: string) => join(folder, `${hash}.proof`)
  return {
    // Others ask for it: only what can be a content address becomes a path.
    load: async (hash) => (/^[0-9a-f]{64}$/.test(hash) ? await readIfThere(path(hash)) : undefined),
    save: async (hash, bytes) => {
      await writeWhole(folder, path(hash), bytes)
      await forgetOldest(folder, KEPT_PROOFS, 'time')
    },
  }
}
