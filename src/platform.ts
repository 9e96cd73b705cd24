import type { Logger } from './log.ts'
import type { ByteSource } from './model/byte-source.ts'

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
