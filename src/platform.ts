import type { Logger } from './log.ts'
import type { ByteSource } from './byte-source.ts'

/**
 * What differs between Node, Deno and a browser, as one object made in `node/platform.ts` or `web/platform.ts`
 * and passed down. The core never asks where it runs.
 */
export interface Platform {
  readonly name: 'node' | 'deno' | 'browser'
  readonly log: Logger
  /** Logical CPU cores this process may use. */
  readonly cores: number
  /** WebGPU, or undefined where there is none. */
  gpu(): Promise<GPU | undefined>
  /** A cheap look before a GPU driver is loaded: false only where there is surely no GPU. */
  mayHaveGpu(): Promise<boolean>
  /** WGSL sources by path relative to `shaders/`, e.g. `rms_norm.wgsl`, `lib/reduce.wgsl`. */
  shaders(): Promise<ReadonlyMap<string, string>>
  files: FileStore
  /** Absent where nothing outlives the process. */
  facts?: FactStore
  /** Compiled kernels of the wasm engine; absent where they are not shipped. */
  wasmKernels?: (name: keyof WasmKernels) => Promise<Uint8Array<ArrayBuffer>>
  /** Absent where the JavaScript engine can't. */
  compileWideWasm?: CompileWideWasm
  /** Starts a thread of the wasm engine; absent where threads can't share memory. */
  startWasmThread?: (job: WasmThreadJob) => Promise<WasmThread>
}

/** The wasm engine's kernels, compiled for machines with and without relaxed SIMD; both compute the same bits. */
export interface WasmKernels {
  readonly relaxed: Uint8Array<ArrayBuffer>
  readonly plain: Uint8Array<ArrayBuffer>
}

/** Compiles WebAssembly so that pairs of 128-bit vector instructions become 256-bit ones, where the processor has those. */
export type CompileWideWasm = (code: Uint8Array<ArrayBuffer>) => WideWasm

export interface WideWasm {
  readonly module: WebAssembly.Module
  /**
   * To be called when its code has run and JavaScript goes on: code of both widths in turn is ten times slower till the
   * upper halves of the vectors are declared empty.
   */
  done(): void
}

/** What a thread does: makes an instance of `module` on `memory` (as `env.memory`) and calls its `work(...parameters)`. */
export interface WasmThreadJob {
  readonly module: WebAssembly.Module
  /** Shared. */
  readonly memory: WebAssembly.Memory
  readonly parameters: readonly number[]
}

/** A thread that is ready to work. It keeps no process alive. */
export interface WasmThread {
  /** Waits till `work` returned and the thread is gone. */
  join(): Promise<void>
}

/** Small facts kept from one start to the next, e.g. that a GPU driver computes right; losing one costs time only. */
export interface FactStore {
  /** Undefined when it is not known, or can't be read. */
  get(key: string): Promise<string | undefined>
  /** Never rejects: a fact that can't be kept is found out again. */
  put(key: string, value: string): Promise<void>
}

/** Files of this machine (Node, Deno: the disk; browsers: OPFS). Paths use `/`. */
export interface FileStore {
  /** Opens a file for range reads. @throws `not_found`. */
  open(path: string): Promise<ByteSource>
  /** @throws `not_found`. */
  readText(path: string): Promise<string>
  /** Kind of what is at `path`. */
  stat(path: string): Promise<'file' | 'folder' | 'nothing'>
  /** Names inside a folder, sorted. */
  list(path: string): Promise<readonly string[]>
}
