import { readFileSync } from 'node:fs'
import { createWasmRuntime } from './src/engine/wasm/runtime.ts'
import { silentLogger } from './src/log.ts'
import { fastestKernels } from './src/engine/wasm/kernel-code.ts'
import { compileWideWasm } from './node/compile-wide-wasm.ts'
const code = await fastestKernels({ kernels: async (n) => new Uint8Array(readFileSync(`src/engine/wasm/kernels-${n}.wasm`)), log: silentLogger, compileWide: compileWideWasm })
const rt = await createWasmRuntime({ threads: 1, code, startThread: undefined, log: silentLogger })
const n = 4096, x = rt.memory.allocate(n * 4, 'x'), up = rt.memory.allocate(n * 4, 'u')
const xs = Float32Array.from({ length: n }, (_, i) => Math.sin(i) * 5)
for (const a of [0, 1, 2]) { let best = 1e9; for (let k = 0; k < 60; k++) { rt.memory.floats(up, n).fill(1); const t = performance.now(); for (let i = 0; i < 50; i++) { rt.memory.floats(x, n).set(xs); rt.exports.activate(a, x, up, n) } best = Math.min(best, (performance.now() - t) / 50) } console.log(['silu', 'gelu', 'gelu-tanh'][a], (best / n * 1e6).toFixed(2), 'ns a value') }
