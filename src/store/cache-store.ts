/**
 * Port: where files fetched from afar are kept. Paths are relative, use `/` and never leave the store.
 * Several processes may use one store at a time: `append` and `writeText` of one call land whole.
 */
export interface CacheStore {
  /** For people: the folder. */
  readonly name: string
  /** Opens a file for reading and writing; makes it. @throws `capacity` when the disk is full, `bad_file`. */
  open(path: string): Promise<CacheFile>
  /** Undefined when there is no such file. */
  readText(path: string): Promise<string | undefined>
  /** Replaces the file at once: readers see the old or the new text. */
  writeText(path: string, text: string): Promise<void>
  /** Names in a folder, sorted; none when it does not exist. */
  list(path: string): Promise<readonly string[]>
  /** Bytes that a file or folder really takes on disk (holes do not count); 0 when it does not exist. */
  diskBytes(path: string): Promise<number>
  /** Removes a file or a folder with all in it; nothing happens when it does not exist. */
  remove(path: string): Promise<void>
}

/** A file of a `CacheStore`; it may have holes, which read as zeros. */
export interface CacheFile {
  size(): Promise<number>
  /** At most `length` bytes from `offset`: fewer at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>
  write(offset: number, bytes: Uint8Array): Promise<void>
  append(bytes: Uint8Array): Promise<void>
  /** SHA-256 of the whole file, hex. */
  sha256(): Promise<string>
  close(): Promise<void>
}
