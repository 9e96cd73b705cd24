import { readFile, stat } from 'node:fs/promises'
import { Command } from 'commander'
import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { checkReceipts, type ReceiptReport, type SessionEvidence } from '../../src/protocol/receipt-check.ts'
import { readReceiptFile, type StoredReceipt } from '../../src/protocol/receipt-file.ts'
import { verifySignature } from '../../src/swarm/identity.ts'

interface VerifyOptions {
  json?: boolean
}

/** What `chorale verify --json` prints. */
export interface VerifyReport extends ReceiptReport {
  readonly ok: boolean
  /** Receipts read, those with problems included. */
  readonly receipts: number
  /** Bytes at the end of files that were cut short. */
  readonly cutBytes: number
  /** What each server computed, as far as it is proved; most tokens first. */
  readonly servers: readonly ServerTotal[]
}

/** What one server computed, by its own signed receipts. */
export interface ServerTotal {
  readonly server: string
  readonly sessions: number
  readonly prefilled: number
  readonly decoded: number
  /** Tokens × blocks: what the work is measured in. */
  readonly blockTokens: number
}

/** A file is read whole; the ones this program writes have 16 MiB. */
const MAX_FILE_BYTES = 512 * 1024 * 1024

/** `chorale verify`: checks files of receipts without any network, and says who computed what. */
export function verifyCommand(): Command {
  return new Command('verify')
    .description(
      'check files of receipts offline: signatures, hash chains, counts; and say who computed what',
    )
    .argument('<file...>', 'files of receipts, from servers, clients, or both')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ chorale verify receipts-000001.bin --json')
    .action(async (files: string[], options: VerifyOptions) => {
      const report = await verifyFiles(files)
      if (options.json === true) process.stdout.write(`${JSON.stringify(report, undefined, 1)}\n`)
      else process.stdout.write(describe(report))
      if (!report.ok) process.exitCode = 1
    })
}

/** Checks all files as one. @throws `not_found`, `bad_file`. */
export async function verifyFiles(files: readonly string[]): Promise<VerifyReport> {
  const entries: StoredReceipt[] = []
  let cutBytes = 0
  for (const file of files) {
    const read = readReceiptFile(await readWhole(file))
    entries.push(...read.entries)
    cutBytes += read.cutBytes
  }
  const report = await checkReceipts(entries, verifySignature)
  return {
    ok: report.problems.length === 0,
    receipts: entries.length,
    cutBytes,
    servers: totals(report.sessions),
    ...report,
  }
}

async function readWhole(file: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(file)
    if (size > MAX_FILE_BYTES) {
      throw new ChoraleError('limit', `${file} has ${size} bytes (at most ${MAX_FILE_BYTES})`)
    }
    return new Uint8Array(await readFile(file))
  } catch (error) {
    if (error instanceof ChoraleError) throw error
    throw new ChoraleError('not_found', `${file} can't be read: ${errorMessage(error)}`, { cause: error })
  }
}

function totals(sessions: readonly SessionEvidence[]): ServerTotal[] {
  const byServer = new Map<string, ServerTotal>()
  for (const { server, prefilled, decoded, start, end } of sessions) {
    const sum = byServer.get(server) ?? { server, sessions: 0, prefilled: 0, decoded: 0, blockTokens: 0 }
    byServer.set(server, {
      server,
      sessions: sum.sessions + 1,
      prefilled: sum.prefilled + prefilled,
      decoded: sum.decoded + decoded,
      blockTokens: sum.blockTokens + (prefilled + decoded) * (end - start),
    })
  }
  return [...byServer.values()].toSorted((a, b) => b.blockTokens - a.blockTokens)
}

function describe(report: VerifyReport): string {
  const lines = report.sessions.map((session) => {
    const { server, client, modelId, start, end, prefilled, decoded, receipts, acknowledged } = session
    const whole = session.complete ? 'complete' : 'in part'
    return `${server} computed blocks ${start}:${end} of ${modelId} for ${client}: ${prefilled} + ${decoded} tokens, ${acknowledged} of ${receipts} receipts signed by both, ${whole}`
  })
  const problems = report.problems.map(({ entry, field, message }) => `entry ${entry}: ${field}: ${message}`)
  const sum = `${report.receipts} receipts, ${report.sessions.length} sessions, ${report.problems.length} problems`
  return `${[...lines, ...problems, sum].join('\n')}\n`
}
