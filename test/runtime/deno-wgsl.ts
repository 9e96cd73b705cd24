/**
 * Runs the wgsl engine against a reference vector in whatever runtime starts it (Deno, Node), then closes
 * everything and falls off the end: the process must exit by itself.
 * Prints one JSON line: { runtime, adapter, hiddenError, greedyEqual, bits } or { runtime, skipped }.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { readReference } from '../../node/cli/parity/reference-folder.ts'
import { createNodePlatform } from '../../node/platform.ts'
import { createWgslEngine } from '../../src/engine/wgsl-engine.ts'
import { describeAdapter } from '../../src/gpu/device.ts'
import { silentLogger } from '../../src/log.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import { openModel } from '../../src/model/open-model.ts'
import { loadSpans, splitEvenly, traceThrough } from '../../src/session/trace.ts'
import { relativeError } from '../engine/span-runs.ts'

const platform = createNodePlatform(silentLogger)
const gpu = await platform.gpu()
const adapter = gpu === undefined ? undefined : await describeAdapter(gpu)
if (gpu === undefined || adapter === undefined) {
  console.log(JSON.stringify({ runtime: platform.name, skipped: 'no WebGPU adapter' }))
} else {
  const folder = join(import.meta.dirname, '../vectors/llama-gqa')
  const model = await openModel(folder, platform)
  const reference = await readReference(folder)
  const engine = await createWgslEngine({
    gpu,
    shaders: await platform.shaders(),
    log: silentLogger,
    allowSoftware: true,
    // Compiling its kernels takes a software adapter half a minute; it has tests of its own, and parity is checked here.
    facts: { get: async () => 'passed', put: async () => undefined },
  })
  const head = await engine.loadHead(model)
  const client = { embedding: await loadEmbedding(model), head }
  const decode = reference.decodeIds.length
  const runners = await loadSpans(
    engine,
    model,
    splitEvenly(model.spec.blockCount, 2),
    reference.inputIds.length + decode,
  )
  const trace = await traceThrough(client, runners, reference.inputIds, decode)
  const expected = reference.tensors.get('final')
  const { data } = trace.decodeLogits
  console.log(
    JSON.stringify({
      runtime: platform.name,
      adapter: adapter.name,
      hiddenError: relativeError(trace.final.data, expected?.data ?? []),
      greedyEqual: trace.decodeIds.join() === reference.decodeIds.join(),
      bits: createHash('sha256')
        .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
        .digest('hex')
        .slice(0, 16),
    }),
  )
  for (const runner of runners) await runner.close()
  await head.close()
  await engine.close()
  await model.close()
}
