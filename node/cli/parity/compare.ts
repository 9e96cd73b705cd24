import type { Engine } from '../../../src/engine/engine.ts'
import { loadEmbedding } from '../../../src/model/embedding.ts'
import type { Model } from '../../../src/model/model.ts'
import type { SpanRunner } from '../../../src/session/span-runner.ts'
import {
  loadSpans,
  splitEvenly,
  traceThrough,
  type ClientParts,
  type Trace,
} from '../../../src/session/trace.ts'
import { relativeError } from '../../../src/tensor/relative-error.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { fullTrace } from '../trace.ts'
import { withLoopbackChain } from './loopback-chain.ts'
import type { Reference } from './reference-folder.ts'

/** One model on one engine against its reference. Null where nothing was compared. */
export interface ParityResult {
  readonly model: string
  readonly engine: string
  readonly dtype: string
  /** max |a - b| / max |b|, by tensor. */
  readonly maxRelativeError: Readonly<Record<string, number>>
  /** Greedy ids of the cached decode equal the reference's, which were computed without a cache. */
  readonly greedyEqual: boolean | null
  /** The model cut into 2 and 3 spans gives the bits of the uncut one. */
  readonly splitsEqual: boolean | null
  /** Three servers over loopback libp2p give the bits of the uncut local span. */
  readonly chainEqual: boolean | null
  /** Why nothing was compared, or null. */
  readonly skipped: string | null
}

/** Computes the reference's prompt and continuation on `engine`: uncut, cut in 2 and 3, and over loopback libp2p. */
export async function compareWithReference(
  model: Model,
  engine: Engine,
  reference: Reference,
): Promise<ParityResult> {
  const { blockCount } = model.spec
  const ids = reference.inputIds
  const decode = reference.decodeIds.length
  const kvTokens = ids.length + Math.max(decode, 1)
  const whole = await fullTrace(engine, model, [{ start: 0, end: blockCount }], ids, decode)
  const client: ClientParts = { embedding: await loadEmbedding(model), head: await engine.loadHead(model) }
  try {
    let splitsEqual = true
    for (const parts of [2, 3]) {
      const runners = await loadSpans(engine, model, splitEvenly(blockCount, parts), kvTokens)
      splitsEqual = sameBits(whole, await traceAndClose(client, runners, ids, decode)) && splitsEqual
    }
    const chainEqual = await withLoopbackChain(
      model,
      engine,
      splitEvenly(blockCount, 3),
      kvTokens,
      async (chain) => sameBits(whole, await traceThrough(client, [chain], ids, decode)),
    )
    return {
      model: model.name,
      engine: engine.name,
      dtype: 'f32',
      maxRelativeError: errors(whole, reference),
      greedyEqual:
        whole.decodeIds.length === decode &&
        whole.decodeIds.every((id, index) => id === reference.decodeIds[index]),
      splitsEqual,
      chainEqual,
      skipped: null,
    }
  } finally {
    await client.head.close()
  }
}

async function traceAndClose(
  client: ClientParts,
  runners: readonly SpanRunner[],
  ids: readonly number[],
  decode: number,
): Promise<Trace> {
  try {
    return await traceThrough(client, runners, ids, decode)
  } finally {
    await Promise.all(runners.map((runner) => runner.close()))
  }
}

function errors(trace: Trace, reference: Reference): Record<string, number> {
  const found: Record<string, number> = {}
  const compare = (name: string, actual: Tensor | undefined) => {
    const expected = reference.tensors.get(name)
    if (expected !== undefined) found[name] = actual === undefined ? UNCOMPARABLE : errorOf(actual, expected)
  }
  for (const name of reference.tensors.keys()) {
    if (name.startsWith('hidden.')) compare(name, trace.hidden.get(Number(name.slice('hidden.'.length))))
  }
  compare('final', trace.final)
  compare('logits', trace.logits)
  compare('decode_logits', trace.decodeLogits)
  return found
}

/** Stands for "not comparable" in JSON, which has no infinity. */
const UNCOMPARABLE = Number.MAX_VALUE

/** `relativeError`; `UNCOMPARABLE` when the shapes differ or a value is not a number. */
function errorOf(actual: Tensor, expected: Tensor): number {
  if (actual.shape[0] !== expected.shape[0] || actual.shape[1] !== expected.shape[1]) return UNCOMPARABLE
  const error = relativeError(actual.data, expected.data)
  return Number.isFinite(error) ? error : UNCOMPARABLE
}

/** Equal bits of what leaves the last block, of the logits and of the whole decode. */
function sameBits(a: Trace, b: Trace): boolean {
  const last = (trace: Trace) => trace.hidden.get(Math.max(...trace.hidden.keys()))
  return (
    sameTensor(last(a), last(b)) &&
    sameTensor(a.logits, b.logits) &&
    sameTensor(a.decodeLogits, b.decodeLogits) &&
    a.decodeIds.every((id, index) => id === b.decodeIds[index])
  )
}

function sameTensor(a: Tensor | undefined, b: Tensor | undefined): boolean {
  return (
    a !== undefined &&
    b !== undefined &&
    a.data.length === b.data.length &&
    a.data.every((value, index) => Object.is(value, b.data[index]))
  )
}
