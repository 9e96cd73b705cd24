import { DEV_ACCOUNTS, DEV_BALANCE } from '../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode, type DevNodeOptions } from '../../../src/ledger/devnet/dev-node.ts'
import { createNativeRuntime, type NativeRuntime } from '../../../src/ledger/devnet/native/runtime.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'
import type { Socket } from '../../../src/ledger/substrate/json-rpc.ts'

let native: NativeRuntime | undefined

/** A dev node of the native runtime, without a network. */
export function devNode(options: Partial<DevNodeOptions> = {}): DevNode {
  native ??= createNativeRuntime({
    endowed: Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, DEV_BALANCE])),
  })
  const { runtime, genesis, properties } = native
  return new DevNode({ runtime, genesis, properties, name: 'Wired', ...options })
}

/** Options of a node whose chain begins otherwise. */
export function otherGenesis(): Partial<DevNodeOptions> {
  return {
    genesis: createNativeRuntime({ endowed: { [DEV_ACCOUNTS[0]?.address ?? '']: 10n ** 20n } }).genesis,
  }
}

/** A JSON-RPC message. */
export type Message = Record<string, unknown>

/** The line between a client and a node, with faults on demand. */
export class Wire {
  node: DevNode
  /** Refuse new connections. */
  down = false
  /** Requests of these methods get no answer, though the node does what they ask. */
  readonly mute = new Set<string>()
  /** May answer instead of the node: what it returns goes out as it is; undefined lets the node answer. */
  intercept: (request: Message) => Message | undefined = () => undefined
  readonly requests: Message[] = []
  connections = 0
  readonly #open = new Set<() => void>()

  constructor(node: DevNode) {
    this.node = node
  }

  /** Cuts all connections. */
  cut(): void {
    for (const close of this.#open) close()
  }

  readonly openSocket = (): Socket => {
    const listeners = new Map<string, ((event: { readonly data: unknown }) => void)[]>()
    const fire = (type: string, data?: unknown): void => {
      for (const listener of listeners.get(type) ?? []) listener({ data })
    }
    const muted = new Set<unknown>()
    let closed = false
    const connection = createRpcServer(this.node).connect((text) =>
      queueMicrotask(() => {
        if (closed) return
        const message = JSON.parse(text) as Message
        if (!muted.has(message['id'])) fire('message', text)
      }),
    )
    const close = (): void => {
      if (closed) return
      closed = true
      this.#open.delete(close)
      connection.close()
      queueMicrotask(() => fire('close'))
    }
    this.#open.add(close)
    setTimeout(() => {
      if (this.down) return close()
      this.connections++
      fire('open')
    }, 0)
    return {
      readyState: 1,
      close,
      addEventListener: (type: string, listener: (event: never) => void) => {
        listeners.set(type, [...(listeners.get(type) ?? []), listener as never])
      },
      send: (text: string) => {
        const request = JSON.parse(text) as Message
        this.requests.push(request)
        if (this.mute.has(String(request['method']))) muted.add(request['id'])
        const instead = this.intercept(request)
        if (instead !== undefined) {
          queueMicrotask(() =>
            fire('message', JSON.stringify({ jsonrpc: '2.0', id: request['id'], ...instead })),
          )
          return
        }
        queueMicrotask(() => !closed && connection.receive(text))
      },
    }
  }
}
