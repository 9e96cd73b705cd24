import { bytesToHex as bytesHex, hexToBytes as hexBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { bytesField, textField, uintField } from '../protocol/fields.ts'
import type { EvidenceSet } from './agreement.ts'
import type { OpenReport, Sighting } from './epoch-report.ts'
import { contentHash } from './evidence.ts'
import type { EpochFacts, NodeFacts } from './scores.ts'
import type { WorkReceipt } from './work-receipt.ts'

/**
 * From agreed data to facts. Pure.
 *
 * **Which evidence counts.** Everything comes from the ledger at one block, the first of the epoch in which scores are
 * proposed, and from the epoch reports that nodes signed and published for the epoch before. A proposal names its
 * snapshot: the digest of the list of reports it counted (`encodeManifest`). Whoever checks it fetches that very list and
 * those very reports by content address, and so computes from the same bytes.
 *
 * **What a node says of itself counts only when others confirm it**: blocks when at least half of the other observers saw
 * that very span, uptime as their median, work when the client signed too and is answered for by another owner, audits
 * when the ledger's randomness chose the accountant.
 */

/** What the ledger says at the snapshot's block. */
export interface LedgerView {
  readonly subnetId: number
  /** The epoch that is scored: the one before the proposal's. */
  readonly epoch: number
  readonly block: number
  readonly blockHash: string
  /** Nodes of class Included or higher, whose class counts by now. */
  readonly nodes: readonly ViewNode[]
  /** Owner of every peer id on the ledger, whatever its class: main, bootnode and client peers. */
  readonly owners: ReadonlyMap<string, string>
  /** Accountants of the scored epoch (`accountants.ts`). */
  readonly accountants: ReadonlySet<number>
  /** Timestamps of the scored epoch's first block and of the snapshot's, ms since the epoch. */
  readonly from: number
  readonly until: number
}

export interface ViewNode {
  readonly nodeId: number
  readonly peerId: string
  readonly coldkey: string
}

/** What a decoded token weighs against a prefilled one: it streams all weights for itself. */
const DECODE_WORK = 4

/** Whether the report may count: the node is there, the peer is its own, and it speaks of the scored epoch. */
export function reportCounts({ report }: OpenReport, view: LedgerView): boolean {
  const node = view.nodes.find(({ nodeId }) => nodeId === report.nodeId)
  return node?.peerId === report.peerId && report.subnetId === view.subnetId && report.epoch === view.epoch
}

/** Facts of every node whose report is among `reports`; those that may not count are left out. */
export function deriveFacts(view: LedgerView, reports: readonly OpenReport[]): EpochFacts {
  const counted = reports.filter((report) => reportCounts(report, view))
  const { modelId, blockCount } = servedModel(counted)
  const serving = counted
    .filter(({ report }) => report.modelId === modelId && report.blockCount === blockCount)
    .toSorted((a, b) => a.report.nodeId - b.report.nodeId)
  const audits = countAudits(counted, view.accountants)
  const sessions = new Set<string>()
  const nodes = serving.map(({ report, receipts }): NodeFacts => {
    const { nodeId, peerId } = report
    const seen = observersOf(nodeId, serving, view).map((observer) =>
      observer.report.sightings.find((sighting) => sighting.nodeId === nodeId),
    )
    const confirmed = isConfirmed(report, seen)
    const { passed = 0, failed = 0 } = audits.get(nodeId) ?? {}
    return {
      nodeId,
      start: confirmed ? report.start : 0,
      end: confirmed ? report.end : 0,
      uptime: median(seen.map((sighting) => sighting?.uptime ?? 0)),
      work: sumWork(receipts, { peerId, modelId, blockCount }, view, sessions),
      auditsPassed: passed,
      auditsFailed: failed,
    }
  })
  return { epoch: view.epoch, blockCount, nodes }
}

/** The model that most nodes report serving, the smaller name on a tie: a subnet pays for one. */
function servedModel(reports: readonly OpenReport[]): { modelId: string; blockCount: number } {
  const counts = new Map<string, { modelId: string; blockCount: number; count: number }>()
  for (const { report } of reports) {
    if (report.end === 0) continue
    const { modelId, blockCount } = report
    const key = `${modelId} ${blockCount}`
    counts.set(key, { modelId, blockCount, count: (counts.get(key)?.count ?? 0) + 1 })
  }
  const order = (a: string, b: string) => (a < b ? -1 : 1)
  const [most] = [...counts].toSorted(([a, x], [b, y]) => y.count - x.count || order(a, b))
  return most?.[1] ?? { modelId: '', blockCount: 0 }
}

/** Reports of other owners' nodes; of all others where one owner has every node, as on a machine of its own. */
function observersOf(
  nodeId: number,
  reports: readonly OpenReport[],
  view: LedgerView,
): readonly OpenReport[] {
  const owner = (id: number) => view.nodes.find((node) => node.nodeId === id)?.coldkey
  const others = reports.filter(({ report }) => report.nodeId !== nodeId)
  const strangers = others.filter(({ report }) => owner(report.nodeId) !== owner(nodeId))
  return strangers.length > 0 ? strangers : others
}

function isConfirmed(
  { start, end }: { start: number; end: number },
  seen: readonly (Sighting | undefined)[],
): boolean {
  const alike = seen.filter((sighting) => sighting?.start === start && sighting.end === end).length
  return alike > 0 && alike * 2 >= seen.length
}

/** The lower one of two middle values. */
function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? 0
}

/** Blocks × weighted tokens. Each session counts once, in the epoch in which it ended by its last receipt. */
function sumWork(
  receipts: readonly WorkReceipt[],
  server: { readonly peerId: string; readonly modelId: string; readonly blockCount: number },
  view: LedgerView,
  sessions: Set<string>,
): bigint {
  let work = 0n
  for (const receipt of receipts) {
    const payer = view.owners.get(receipt.payer)
    const key = `${server.peerId} ${receipt.session}`
    if (sessions.has(key)) continue
    if (receipt.modelId !== server.modelId || receipt.end > server.blockCount) continue
    if (receipt.issuedAt < view.from || receipt.issuedAt >= view.until) continue
    // Whoever pays itself could sign any amount of work.
    if (payer === undefined || payer === view.owners.get(server.peerId)) continue
    sessions.add(key)
    work += BigInt(receipt.end - receipt.start) * BigInt(receipt.prefilled + DECODE_WORK * receipt.decoded)
  }
  return work
}

function countAudits(
  reports: readonly OpenReport[],
  accountants: ReadonlySet<number>,
): ReadonlyMap<number, { passed: number; failed: number }> {
  const counts = new Map<number, { passed: number; failed: number }>()
  for (const { report } of reports) {
    if (!accountants.has(report.nodeId)) continue
    const done = new Set<string>()
    for (const { nodeId, session, outcome } of report.audits) {
      const key = `${nodeId} ${session}`
      if (done.has(key) || nodeId === report.nodeId) continue
      done.add(key)
      const { passed = 0, failed = 0 } = counts.get(nodeId) ?? {}
      const ok = outcome === 'passed'
      counts.set(nodeId, { passed: passed + (ok ? 1 : 0), failed: failed + (ok ? 0 : 1) })
    }
  }
  return counts
}

/** Which reports a snapshot counts. */
export function evidenceOf(reports: readonly OpenReport[]): EvidenceSet {
  return new Map(reports.map(({ report, hash }) => [report.nodeId, hash]))
}

/** The list of counted reports as it is published, by node id: equal lists are equal bytes. */
export function encodeManifest(view: LedgerView, evidence: EvidenceSet): Uint8Array {
  const ids = [...evidence.keys()].sort((a, b) => a - b)
  const packed = new Uint8Array(ids.length * ENTRY_BYTES)
  const data = new DataView(packed.buffer)
  for (const [i, id] of ids.entries()) {
    data.setUint32(i * ENTRY_BYTES, id)
    packed.set(hexBytes(evidence.get(id)!), i * ENTRY_BYTES + 4)
  }
  return encodeCbor({
    subnetId: view.subnetId,
    epoch: view.epoch,
    blockHash: view.blockHash,
    reports: packed,
  })
}

const ENTRY_BYTES = 36
/** 256 nodes of a subnet, by the pallet. */
const MAX_ENTRIES = 256
/** A manifest of 256 reports, and room for its other fields. */
export const MAX_MANIFEST_BYTES = MAX_ENTRIES * ENTRY_BYTES + 512

/** Reads a manifest; every id ascending. @throws `protocol`, also when it speaks of another snapshot than `view`. */
export function parseManifest(bytes: Uint8Array, view: LedgerView): EvidenceSet {
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw bad('reports', `manifest of ${bytes.length} bytes (at most ${MAX_MANIFEST_BYTES})`)
  }
  const map = decodeCborMap(bytes, 'manifest')
  for (const [field, wanted, found] of [
    ['subnetId', view.subnetId, uintField(map, 'subnetId', 0xffff_ffff)],
    ['epoch', view.epoch, uintField(map, 'epoch', 0xffff_ffff)],
    ['blockHash', view.blockHash, textField(map, 'blockHash', 66)],
  ] as const) {
    if (found !== wanted) throw bad(field, `manifest of another snapshot: ${field} ${found}, not ${wanted}`)
  }
  const packed = bytesField(map, 'reports', 0, MAX_ENTRIES * ENTRY_BYTES)
  if (packed.length % ENTRY_BYTES !== 0) throw bad('reports', 'manifest is cut')
  const data = new DataView(packed.buffer, packed.byteOffset, packed.length)
  const evidence = new Map<number, string>()
  let last = -1
  for (let at = 0; at < packed.length; at += ENTRY_BYTES) {
    const id = data.getUint32(at)
    if (id <= last) throw bad('reports', `manifest lists node ${id} out of order`)
    evidence.set(id, bytesHex(packed.subarray(at + 4, at + ENTRY_BYTES)))
    last = id
  }
  return evidence
}

/** What a proposal's `args` say: the snapshot's block and the manifest's content address. */
export interface ProposalArgs {
  readonly block: number
  readonly manifest: string
}

/** At most 64 bytes; the pallet takes 4,096. */
export function encodeProposalArgs(args: ProposalArgs): Uint8Array {
  return encodeCbor({ block: args.block, manifest: hexBytes(args.manifest) })
}

/** @throws `protocol`. */
export function parseProposalArgs(bytes: Uint8Array): ProposalArgs {
  const map = decodeCborMap(bytes, 'proposal args')
  return {
    block: uintField(map, 'block', 0xffff_ffff),
    manifest: bytesHex(bytesField(map, 'manifest', 32, 32)),
  }
}

/** Content address of the snapshot that counts `evidence`. */
export function snapshotDigest(view: LedgerView, evidence: EvidenceSet): string {
  return contentHash(encodeManifest(view, evidence))
}

function bad(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}
