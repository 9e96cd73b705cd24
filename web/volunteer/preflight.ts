import { describeAdapter } from '../../src/gpu/device.ts'
import { browserIdentity } from '../network/tab-identity.ts'
import type { SubnetView } from '../session/subnet-view.ts'
import { strings } from '../strings.ts'
import { formatBytes } from '../ui/format.ts'

/** One look at what this tab can do; `fix` says what helps where it can't. */
export interface Check {
  readonly name: string
  readonly state: 'good' | 'poor' | 'missing'
  readonly found: string
  readonly fix?: string
}

/** A module that returns a v128: whether it is valid tells whether the browser knows WebAssembly SIMD. */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98,
  11,
])

/**
 * Looks at the browser, the machine and, where peers need it, the stake of this browser's peer. Nothing is started and
 * nothing leaves the tab.
 */
export async function runPreflight(subnet: SubnetView | undefined): Promise<readonly Check[]> {
  return [
    ...(subnet === undefined ? [] : [await stakeCheck(subnet)]),
    await gpuCheck(),
    wasmCheck(),
    memoryCheck(),
    await storageCheck(),
    secureCheck(),
  ]
}

async function stakeCheck({ name: subnet, nodes, token }: SubnetView): Promise<Check> {
  const words = strings.stakeOfTab
  const { peerId } = await browserIdentity()
  const node = nodes.find((candidate) => candidate.peerId === peerId)
  if (node === undefined) {
    return { name: words.name, state: 'missing', found: words.missing(peerId, subnet), fix: words.fix }
  }
  const found = words.found(`${node.stake} ${token}`, node.id, node.class)
  // The pallet gives a node its class with the next epochs.
  return node.class === 'Registered'
    ? { name: words.name, state: 'poor', found, fix: words.waitFix }
    : { name: words.name, state: 'good', found }
}

async function gpuCheck(): Promise<Check> {
  const words = strings.preflight
  const gpu = (navigator as { gpu?: GPU }).gpu
  if (gpu === undefined) {
    return { name: words.gpu, state: 'poor', found: words.noWebGpu, fix: words.noWebGpuFix }
  }
  const adapter = await describeAdapter(gpu).catch(() => undefined)
  if (adapter === undefined) {
    return { name: words.gpu, state: 'poor', found: words.noAdapter, fix: words.noAdapterFix }
  }
  return adapter.software
    ? { name: words.gpu, state: 'poor', found: words.software(adapter.name), fix: words.noAdapterFix }
    : {
        name: words.gpu,
        state: 'good',
        found: words.adapter(adapter.name, formatBytes(adapter.limits.maxBufferSize)),
      }
}

function wasmCheck(): Check {
  const words = strings.preflight
  if (!WebAssembly.validate(SIMD_PROBE)) {
    return { name: words.wasm, state: 'missing', found: words.noSimd, fix: words.noSimdFix }
  }
  return globalThis.crossOriginIsolated
    ? { name: words.wasm, state: 'good', found: words.simd }
    : { name: words.wasm, state: 'poor', found: words.notIsolated, fix: words.notIsolatedFix }
}

function memoryCheck(): Check {
  const words = strings.preflight
  const memory = (navigator as { deviceMemory?: number }).deviceMemory
  const cores = navigator.hardwareConcurrency
  if (memory === undefined) return { name: words.memory, state: 'good', found: words.memoryUnknown(cores) }
  return memory >= 4
    ? { name: words.memory, state: 'good', found: words.memoryFound(memory, cores) }
    : { name: words.memory, state: 'poor', found: words.memoryFound(memory, cores), fix: words.memoryFix }
}

async function storageCheck(): Promise<Check> {
  const words = strings.preflight
  try {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate()
    await navigator.storage.getDirectory()
    return { name: words.storage, state: 'good', found: words.storageFound(formatBytes(quota - usage)) }
  } catch {
    return { name: words.storage, state: 'poor', found: words.noStorage, fix: words.noStorageFix }
  }
}

function secureCheck(): Check {
  const words = strings.preflight
  return globalThis.isSecureContext
    ? { name: words.page, state: 'good', found: words.secure }
    : { name: words.page, state: 'missing', found: words.insecure, fix: words.insecureFix }
}
