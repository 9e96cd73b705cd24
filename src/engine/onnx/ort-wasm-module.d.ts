/** The parts of onnxruntime-web's WebAssembly module that this engine calls; the package ships no types for it. */
declare module 'onnxruntime-web/ort-wasm-simd-threaded.mjs' {
  /** Functions that return a status give 0 on success. The build without WebGPU runs graphs synchronously. */
  export interface OrtWasmModule {
    readonly HEAPU8: Uint8Array
    _malloc(bytes: number): number
    _free(address: number): void
    stackSave(): number
    stackRestore(stack: number): void
    stackAlloc(bytes: number): number
    getValue(address: number, type: '*'): number
    setValue(address: number, value: number, type: '*'): void
    UTF8ToString(address: number): string
    stringToUTF8(text: string, address: number, maxBytes: number): void
    lengthBytesUTF8(text: string): number
    mountExternalData(path: string, data: Uint8Array): void
    unmountExternalData(): void
    _OrtInit(threads: number, logLevel: number): number
    _OrtGetLastError(codeAddress: number, messageAddress: number): void
    _OrtCreateSessionOptions(
      graphOptimizationLevel: number,
      cpuMemArena: boolean,
      memPattern: boolean,
      executionMode: number,
      profiling: boolean,
      profilePrefix: number,
      logId: number,
      logSeverity: number,
      logVerbosity: number,
      optimizedModelPath: number,
    ): number
    _OrtReleaseSessionOptions(options: number): number
    _OrtCreateSession(model: number, bytes: number, options: number): number | Promise<number>
    _OrtReleaseSession(session: number): number
    _OrtCreateTensor(
      type: number,
      data: number,
      bytes: number,
      dims: number,
      dimCount: number,
      location: number,
    ): number
    _OrtReleaseTensor(tensor: number): number
    _OrtRun(
      session: number,
      inputNames: number,
      inputs: number,
      inputCount: number,
      outputNames: number,
      outputCount: number,
      outputs: number,
      runOptions: number,
    ): number
  }
  /** Instantiates the module; the .wasm file is found beside the script. */
  export default function create(options: {
    numThreads: number
    wasmBinary?: Uint8Array
  }): Promise<OrtWasmModule>
}
