import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import { CRYPTO_FUNCTIONS } from './host-crypto.ts'
import { HASHING_FUNCTIONS } from './host-hashing.ts'
import { MISC_FUNCTIONS } from './host-misc.ts'
import { STORAGE_FUNCTIONS } from './host-storage.ts'
import { type Host, type HostFunctions, unavailable } from './host.ts'
import { unpackCode } from './runtime-code.ts'
import type { Runtime, RuntimeStorage } from './runtime.ts'
import { createStateStore } from './storage.ts'
import { WasmAllocator } from './wasm-allocator.ts'

/** Storage key of the runtime's code. */
export const CODE_KEY = new TextEncoder().encode(':code')

/** 64 KiB pages a runtime may have: 256 MiB, twice Substrate's default heap. */
const MAX_PAGES = 4096
/** An instance whose memory grew beyond this is not kept for the next call. */
const KEPT_BYTES = 64 * 2 ** 20
const FIRST_PAGES = 32
/** Compiled codes kept: the one in force, and the one it is being replaced with. */
const KEPT_MODULES = 2

const FUNCTIONS: HostFunctions = {
  ...STORAGE_FUNCTIONS,
  ...HASHING_FUNCTIONS,
  ...CRYPTO_FUNCTIONS,
  ...MISC_FUNCTIONS,
}

/**
 * A runtime that is wasm: the code under `:code` of the state it is called on, so that an upgrade takes effect by itself.
 * Runs in this thread; a call that never ends is not interrupted.
 * @param code `:code` at genesis, packed or not
 * @throws `bad_file` when it is no wasm or has no `Core_version`.
 */
export function createWasmRuntime(code: Uint8Array, log?: Logger): Runtime {
  const codes = new Map<Uint8Array, WasmCode>()
  const find = (key: Uint8Array): WasmCode => {
    const known = codes.get(key)
    if (known !== undefined) return known
    const compiled = compile(key, log)
    const oldest = codes.keys().next()
    if (codes.size >= KEPT_MODULES && !oldest.done) codes.delete(oldest.value)
    codes.set(key, compiled)
    return compiled
  }
  const { entries } = find(code)
  if (!entries.has('Core_version')) {
    throw new ChoraleError('bad_file', ':code exports no Core_version; is it a Substrate runtime?', {
      field: ':code',
    })
  }
  // The state keeps a copy of its own: from then on that array is what tells whether the code is the same.
  let inForce: Uint8Array | undefined
  return {
    entries,
    call(entry, input, storage) {
      const current = storage.get(CODE_KEY) ?? code
      if (current !== inForce) {
        const same = current.length === code.length && current.every((byte, at) => byte === code[at])
        if (same && !codes.has(current)) codes.set(current, find(code))
        inForce = current
      }
      return find(current).call(entry, input, storage)
    },
  }
}

interface WasmCode {
  readonly entries: ReadonlySet<string>
  call(entry: string, input: Uint8Array, storage: RuntimeStorage): Uint8Array
}

interface Instance {
  readonly exports: WebAssembly.Exports
  readonly memory: WebAssembly.Memory
  /** Memory below the heap as it was before the first call. */
  readonly pristine: Uint8Array
  readonly host: RunningHost
}

function compile(packed: Uint8Array, log: Logger | undefined): WasmCode {
  const wasm = unpackCode(packed)
  let module: WebAssembly.Module
  try {
    module = new WebAssembly.Module(wasm)
  } catch (error) {
    throw new ChoraleError('bad_file', `:code is no WebAssembly that runs here: ${errorMessage(error)}`, {
      cause: error,
      field: ':code',
    })
  }
  const entries = new Set(
    WebAssembly.Module.exports(module)
      .filter(({ kind, name }) => kind === 'function' && !name.startsWith('_'))
      .map(({ name }) => name),
  )
  let idle: Instance | undefined
  return {
    entries,
    call(entry, input, storage) {
      if (!entries.has(entry)) throw new ChoraleError('ledger', `the runtime has no entry ${entry}`)
      const instance = idle ?? instantiate(module, log)
      idle = undefined // a call within this one gets an instance of its own
      const output = run(instance, entry, input, storage)
      if (instance.memory.buffer.byteLength <= KEPT_BYTES) idle = instance
      return output
    },
  }
}

/** Runs an entry; after a trap the instance is not used again, for its stack pointer is anywhere. */
function run(instance: Instance, entry: string, input: Uint8Array, storage: RuntimeStorage): Uint8Array {
  const { host, memory, pristine, exports } = instance
  new Uint8Array(memory.buffer).set(pristine)
  host.begin(storage)
  try {
    const address = host.place(input)
    const span = (exports[entry] as (address: number, length: number) => bigint)(address, input.length)
    return host.bytes(span).slice()
  } catch (error) {
    const said = host.lastError
    if (error instanceof ChoraleError) {
      throw new ChoraleError('ledger', `${entry}: ${error.message}`, { cause: error })
    }
    throw new ChoraleError('ledger', `${entry}: ${said ?? errorMessage(error)}`, { cause: error })
  } finally {
    host.end()
  }
}

function instantiate(module: WebAssembly.Module, log: Logger | undefined): Instance {
  const host = new RunningHost(log)
  const imports: Record<string, WebAssembly.ImportValue> = {}
  let imported: WebAssembly.Memory | undefined
  for (const { name, kind } of WebAssembly.Module.imports(module)) {
    if (kind !== 'function') continue
    const call = FUNCTIONS[name] ?? unavailable(name)
    imports[name] = (...args: never[]) => call(host, ...args)
  }
  const wantsMemory = WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory')
  for (let pages = FIRST_PAGES; ; pages *= 2) {
    if (wantsMemory) imported = new WebAssembly.Memory({ initial: pages, maximum: MAX_PAGES })
    try {
      const { exports } = new WebAssembly.Instance(module, {
        env: imported === undefined ? imports : { ...imports, memory: imported },
      })
      const memory = imported ?? exports['memory']
      const heapBase = exports['__heap_base']
      if (!(memory instanceof WebAssembly.Memory) || !(heapBase instanceof WebAssembly.Global)) {
        throw new ChoraleError('bad_file', ':code has no memory or no __heap_base', { field: ':code' })
      }
      const base = Number(heapBase.value) >>> 0
      host.attach(memory, new WasmAllocator(memory, base, MAX_PAGES))
      return { exports, memory, pristine: new Uint8Array(memory.buffer, 0, base).slice(), host }
    } catch (error) {
      // How many pages it wants at least is known only by trying.
      if (!(error instanceof WebAssembly.LinkError) || !wantsMemory || pages >= MAX_PAGES) throw error
    }
  }
}

class RunningHost implements Host {
  batch: { valid: boolean } | undefined
  /** What the runtime logged as its last error: a panic's message. */
  lastError: string | undefined
  readonly #log: Logger | undefined
  #storage: RuntimeStorage | undefined
  #memory: WebAssembly.Memory | undefined
  #allocator: WasmAllocator | undefined

  constructor(log: Logger | undefined) {
    this.#log = log
  }

  attach(memory: WebAssembly.Memory, allocator: WasmAllocator): void {
    this.#memory = memory
    this.#allocator = allocator
  }

  begin(storage: RuntimeStorage): void {
    this.#storage = storage
    this.lastError = undefined
    this.batch = undefined
    this.allocator.reset()
  }

  end(): void {
    this.#storage = undefined
  }

  get storage(): RuntimeStorage {
    if (this.#storage === undefined) throw new ChoraleError('internal', 'no entry of the runtime runs now')
    return this.#storage
  }

  get allocator(): WasmAllocator {
    if (this.#allocator === undefined) throw new ChoraleError('internal', 'the runtime has no memory yet')
    return this.#allocator
  }

  bytes(span: bigint): Uint8Array {
    return this.at(Number(span & 0xffff_ffffn), Number((span >> 32n) & 0xffff_ffffn))
  }

  at(pointer: number, length: number): Uint8Array {
    const start = pointer >>> 0
    const buffer = this.#memory?.buffer ?? new ArrayBuffer(0)
    if (start + length > buffer.byteLength) {
      throw new ChoraleError('ledger', `the runtime passes ${length} bytes at ${start}, outside its memory`)
    }
    return new Uint8Array(buffer, start, length)
  }

  give(bytes: Uint8Array): bigint {
    return BigInt.asIntN(64, (BigInt(bytes.length) << 32n) | BigInt(this.place(bytes)))
  }

  place(bytes: Uint8Array): number {
    const address = this.allocator.allocate(bytes.length)
    this.at(address, bytes.length).set(bytes)
    return address
  }

  log(level: number, target: string, message: string): void {
    if (level <= 1) this.lastError = message
    this.#log?.debug(message, { target, level })
  }

  versionOf(code: Uint8Array): Uint8Array {
    return compile(code, this.#log).call('Core_version', new Uint8Array(), createStateStore().overlay())
  }
}
