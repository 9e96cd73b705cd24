import { ChoraleError } from '../../errors.ts'
import { contentHash } from '../evidence.ts'
import type { EpochFacts, Score } from '../scores.ts'
import { instantiate, type PolicyLimits, type PolicyRun } from './interpreter.ts'
import { type PolicyModule, readPolicyModule } from './module.ts'

/**
 * A program that replaces the score formula; its hash is on the ledger.
 *
 * It exports `memory`, `allocate(length: i32): i32` and `score(pointer: i32, length: i32): i32`. The input is
 * `encodeFacts`; the result points at a little-endian u32 count and so many entries of u32 node id and u128 score, by
 * node id ascending. No randomness, clock or floats: equal facts give equal scores.
 */
export interface Policy {
  readonly module: PolicyModule
  readonly limits: PolicyLimits
}

/** Bytes before the nodes, and of one node, in `encodeFacts`. */
const HEADER_BYTES = 24
const NODE_BYTES = 32
/** `CNP1` */
const MAGIC = 0x3150_4e43
const RESULT_BYTES = 20
/** What the pallet can sum: u128. */
const MAX_TOTAL = (1n << 128n) - 1n
const MAX_WORK = (1n << 64n) - 1n

/** Checks the program against its hash on the ledger and reads it. @throws `ledger`. */
export function openPolicy(
  wasm: Uint8Array,
  policy: { readonly sha256: string; readonly gas: number; readonly pages: number },
): Policy {
  const found = contentHash(wasm)
  if (found !== policy.sha256) {
    throw new ChoraleError('ledger', `policy program ${found} is not the ledger's ${policy.sha256}`, {
      field: 'policy.sha256',
    })
  }
  return { module: readPolicyModule(wasm), limits: { gas: policy.gas, pages: policy.pages } }
}

/**
 * Facts as a policy reads them, little-endian: u32 magic, u32 nodes, u32 blocks of the model, u32 0, u64 epoch; then
 * for each node by id u32 id, u32 start, u32 end, u32 uptime (of 1000), u64 work (at most 2^64 - 1), u32 audits passed,
 * u32 audits failed.
 */
export function encodeFacts(facts: EpochFacts): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + facts.nodes.length * NODE_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, facts.nodes.length, true)
  view.setUint32(8, facts.blockCount, true)
  view.setBigUint64(16, BigInt(facts.epoch), true)
  const nodes = facts.nodes.toSorted((a, b) => a.nodeId - b.nodeId)
  for (const [i, node] of nodes.entries()) {
    const at = HEADER_BYTES + i * NODE_BYTES
    for (const [field, value] of [node.nodeId, node.start, node.end, node.uptime].entries()) {
      view.setUint32(at + field * 4, value, true)
    }
    view.setBigUint64(at + 16, node.work > MAX_WORK ? MAX_WORK : node.work, true)
    view.setUint32(at + 24, node.auditsPassed, true)
    view.setUint32(at + 28, node.auditsFailed, true)
  }
  return bytes
}

/**
 * Scores of `facts` by the program, those of 0 left out; the thread is given up every few milliseconds.
 * @throws `ledger` when it traps, runs out of gas or answers nonsense, `cancelled` on the signal.
 */
export async function runPolicy(
  policy: Policy,
  facts: EpochFacts,
  how: PolicyRun = {},
): Promise<readonly Score[]> {
  const instance = await instantiate(policy.module, policy.limits, how)
  const input = encodeFacts(facts)
  const pointer = (await instance.call('allocate', input.length)) >>> 0
  instance.write(pointer, input)
  const result = (await instance.call('score', pointer | 0, input.length)) >>> 0
  const count = new DataView(instance.read(result, 4).buffer).getUint32(0, true)
  const ids = new Set(facts.nodes.map(({ nodeId }) => nodeId))
  if (count > ids.size) throw nonsense(`${count} scores for ${ids.size} nodes`)
  const entries = new DataView(instance.read(result + 4, count * RESULT_BYTES).buffer)
  const scores: Score[] = []
  let last = -1
  let total = 0n
  for (let at = 0; at < count * RESULT_BYTES; at += RESULT_BYTES) {
    const nodeId = entries.getUint32(at, true)
    const score = entries.getBigUint64(at + 4, true) + (entries.getBigUint64(at + 12, true) << 64n)
    if (nodeId <= last || !ids.has(nodeId)) throw nonsense(`node ${nodeId} is unknown or out of order`)
    last = nodeId
    total += score
    if (score > 0n) scores.push({ nodeId, score })
  }
  if (total > MAX_TOTAL) throw nonsense('scores add up to more than 128 bits')
  return scores
}

function nonsense(reason: string): ChoraleError {
  return new ChoraleError('ledger', `policy program answered nonsense: ${reason}`, { field: 'policy' })
}
