import type { OrtWasmModule } from 'onnxruntime-web/ort-wasm-simd-threaded.mjs'
import { ChoraleError } from '../../errors.ts'

/**
 * onnxruntime-web's WebAssembly module under plain names; the only file that imports the package.
 *
 * The package's JavaScript front end copies every input into WebAssembly memory and every output out of it on
 * each run. Calling the module itself lets tensors be windows on memory that stays where it is. It also gives
 * every engine its own memory and threads, where the front end has one set a process. This interface is not
 * a documented one: the package's version is pinned exactly, and a test compares it with `ORT_VERSION`.
 */
export const ORT_VERSION = '1.30.0'

/** Addresses, tensors and sessions are byte offsets in the module's memory; 0 means failure. */
export type OrtWasm = ReturnType<typeof plainNames>

/** Loads the module with its own memory and `threads` - 1 workers. @throws `engine`. */
export async function instantiateOrt(threads: number): Promise<OrtWasm> {
  try {
    const { default: create } = await import('onnxruntime-web/ort-wasm-simd-threaded.mjs')
    return plainNames(await create({ numThreads: threads }))
  } catch (cause) {
    throw new ChoraleError(
      'engine',
      `onnxruntime-web's WebAssembly module does not load (threads: ${threads}): ${String(cause)}`,
      { cause },
    )
  }
}

function plainNames(module: OrtWasmModule) {
  const {
    _malloc: malloc,
    _free: free,
    _OrtInit: init,
    _OrtGetLastError: getLastError,
    _OrtCreateSessionOptions: createSessionOptions,
    _OrtReleaseSessionOptions: releaseSessionOptions,
    _OrtCreateSession: createSession,
    _OrtReleaseSession: releaseSession,
    _OrtCreateTensor: createTensor,
    _OrtReleaseTensor: releaseTensor,
    _OrtRun: run,
  } = module
  return {
    /** Read anew for each use: memory that grows gets a new one. */
    memory: () => module.HEAPU8,
    malloc,
    free,
    stackSave: module.stackSave,
    stackRestore: module.stackRestore,
    stackAlloc: module.stackAlloc,
    getPointer: (address: number) => module.getValue(address, '*'),
    setPointer: (address: number, value: number) => module.setValue(address, value, '*'),
    readString: module.UTF8ToString,
    writeString: module.stringToUTF8,
    stringBytes: (text: string) => module.lengthBytesUTF8(text) + 1,
    mountExternalData: module.mountExternalData,
    unmountExternalData: module.unmountExternalData,
    init,
    getLastError,
    createSessionOptions,
    releaseSessionOptions,
    createSession,
    releaseSession,
    createTensor,
    releaseTensor,
    run,
  }
}
