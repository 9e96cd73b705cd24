import { readFileSync } from 'node:fs'
import { createWasmRuntime } from './src/engine/wasm/runtime.ts'
import { createArena } from './src/engine/wasm/linear-memory.ts'
import { storeMatrix } from './src/engine/wasm/records.ts'
import { silentLogger } from './src/log.ts'
import { quantizedWeight } from './test/engine/quantized-model.ts'
import { fastestKernels } from './src/engine/wasm/kernel-code.ts'
import { compileWideWasm } from './node/compile-wide-wasm.ts'
const code = await fastestKernels({ kernels: async (n) => new Uint8Array(readFileSync(n === 'relaxed' && process.env.K ? process.env.K : `src/engine/wasm/kernels-${n}.wasm`)), log: silentLogger, compileWide: process.env.NOWIDE ? undefined : compileWideWasm })
const rt = await createWasmRuntime({ threads: 1, code, startThread: undefined, log: silentLogger })
const { exports, memory } = rt
for (const [dtype, columns] of [['Q4_1', 576], ['Q4_1', 1536], ['Q8_0', 576], ['F32', 192], ['F16', 192], ['F16', 512]] as const) for (const rows of [1, 16]) {
  const outputs = 8 * 48
  const arena = createArena(memory)
  const weight = dtype[0]==='Q' ? quantizedWeight(dtype, [outputs, columns], 1) : { dtype, shape: [outputs, columns], bytes: new Uint8Array(outputs*columns*(dtype==='F32'?4:2)) }
  if (dtype[0]==='Q') { const size = dtype === 'Q4_1' ? 20 : 34; for (let at = 0; at < weight.bytes.length; at += size) { weight.bytes[at] = at & 255; weight.bytes[at+1] = 0x2c; if (size === 20) { weight.bytes[at+2] = at >> 3 & 255; weight.bytes[at+3] = 0xac } } }
  const m = storeMatrix(memory, arena, weight as never, undefined, true)
  const x = arena.allocate(rows * columns * 4, 'x'), r = arena.allocate(rows * columns * 5, 'r'), out = arena.allocate(rows * outputs * 4, 'o')
  memory.floats(x, rows * columns).set(Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i)))
  const run = () => exports.multiply(m.address, outputs / 8, x, columns, dtype[0]==='F' ? 0 : r, rows, out, outputs * 4)
  for (let i = 0; i < 200; i++) run()
  let best = 1e9
  for (let k = 0; k < 60; k++) { const t = performance.now(); for (let i = 0; i < 20; i++) run(); best = Math.min(best, (performance.now() - t) / 20) }
  console.log(process.env.K ?? '', dtype, columns, rows, (rows * outputs * columns / best / 1e6).toFixed(1), 'GMAC/s')
  arena.close()
}
