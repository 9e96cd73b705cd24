import { ChoraleError, errorMessage, isChoraleError } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { LedgerStatus } from '../ledger.ts'
import { type Connection, openConnection, RpcError, type Socket } from './json-rpc.ts'

/** A node behind a URL, over as many connections as it takes. */
export interface Node {
  readonly status: LedgerStatus
  watchStatus(listener: (status: LedgerStatus) => void): () => void
  /**
   * Asks the node; a question whose connection was lost is asked again on the next one, so it must have no effect.
   * @throws `unreachable` or `timeout` when no answer came within the timeout, `ledger` for an error answer.
   */
  ask(method: string, params?: readonly unknown[], signal?: AbortSignal): Promise<unknown>
  /** Calls once on the connection there is; nothing is repeated. @throws `unreachable` when there is none. */
  callOnce(method: string, params: readonly unknown[]): Promise<unknown>
  /** Called with every connection that passed `greet`, also with the present one. */
  onConnection(listener: (connection: Connection) => void): () => void
  close(): void
}

export interface NodeOptions {
  readonly openSocket: (url: string) => Socket
  /** Limit of one answer, of opening a connection, and of waiting for a connection. */
  readonly timeoutMs: number
  /** How often an otherwise silent node is asked whether it lives. */
  readonly healthMs: number
  readonly firstRetryMs: number
  readonly maxRetryMs: number
  readonly log: Logger
  /** Checks a fresh connection before anything else uses it. @throws `WrongChain` when it leads to another chain. */
  readonly greet: (connection: Connection) => Promise<void>
}

/** The node follows another chain than expected. */
export class WrongChain extends ChoraleError {
  constructor(message: string) {
    super('ledger', message, { field: 'genesis' })
  }
}

/**
 * Connects and keeps connecting: pauses double from `firstRetryMs` to `maxRetryMs`, with a quarter of jitter so that many
 * peers do not come back in one instant. Resolves once the first connection passed `greet`.
 * @throws `unreachable`, `timeout` or `ledger` when the first connection fails; nothing is retried then.
 */
export async function connectNode(url: string, options: NodeOptions): Promise<Node> {
  const { log, timeoutMs } = options
  const statusListeners = new Set<(status: LedgerStatus) => void>()
  const connectionListeners = new Set<(connection: Connection) => void>()
  let status: LedgerStatus = { state: 'unreachable', since: Date.now(), reason: 'not connected yet' }
  let current: Connection | undefined
  let stopped = false
  let wake: () => void = () => undefined
  let failures = 0

  function become(next: LedgerStatus): void {
    const same =
      next.state === status.state &&
      ('reason' in next ? next.reason : '') === ('reason' in status ? status.reason : '')
    if (same) return
    // A node that stays away keeps the time since when it has.
    status =
      next.state !== 'reachable' && status.state === next.state ? { ...next, since: status.since } : next
    for (const listener of statusListeners) listener(status)
  }

  async function open(): Promise<Connection> {
    const connection = await openConnection(url, options.openSocket, timeoutMs)
    try {
      await options.greet(connection)
    } catch (error) {
      connection.close(errorMessage(error))
      throw error
    }
    return connection
  }

  function use(connection: Connection): void {
    failures = 0
    current = connection
    become({ state: 'reachable', since: Date.now() })
    for (const listener of connectionListeners) listener(connection)
    const health = setInterval(() => {
      connection.call('system_health', []).catch((error: unknown) => {
        // An error answer is an answer.
        if (!(error instanceof RpcError)) connection.close(errorMessage(error))
      })
    }, options.healthMs)
    void connection.closed.then((reason) => {
      clearInterval(health)
      current = undefined
      if (stopped) return undefined
      become({ state: 'unreachable', since: Date.now(), reason })
      log.warn('the ledger node went away', { url, reason })
      return reconnect()
    })
  }

  async function reconnect(): Promise<void> {
    // oxlint-disable-next-line no-unmodified-loop-condition -- close() sets it during the pauses
    while (!stopped) {
      const pause = Math.min(options.maxRetryMs, options.firstRetryMs * 2 ** Math.min(failures++, 20))
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause * (0.875 + Math.random() / 4))
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      if (stopped) return
      try {
        const connection = await open()
        if (stopped) return connection.close('closed')
        return use(connection)
      } catch (error) {
        const state = error instanceof WrongChain ? 'wrong-chain' : 'unreachable'
        become({ state, since: Date.now(), reason: errorMessage(error) })
        log.debug('the ledger node is still away', { url, reason: errorMessage(error) })
      }
    }
  }

  async function connection(deadline: number, signal: AbortSignal | undefined): Promise<Connection> {
    if (stopped) throw new ChoraleError('cancelled', 'the ledger connection was closed')
    if (current !== undefined) return current
    let stop: () => void = () => undefined
    let timer: ReturnType<typeof setTimeout> | undefined
    try {
      return await new Promise<Connection>((resolve, reject) => {
        stop = onConnection(resolve)
        timer = setTimeout(() => reject(away()), Math.max(0, deadline - Date.now()))
        signal?.addEventListener('abort', () => reject(cancelled()), { once: true })
      })
    } finally {
      stop()
      clearTimeout(timer)
    }
  }

  function away(): ChoraleError {
    const reason = 'reason' in status ? status.reason : 'no answer'
    return new ChoraleError('unreachable', `the ledger node at ${url} can't be reached: ${reason}`)
  }

  async function ask(
    method: string,
    params: readonly unknown[] = [],
    signal?: AbortSignal,
  ): Promise<unknown> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      if (signal?.aborted === true) throw cancelled()
      const open = await connection(deadline, signal)
      try {
        return await open.call(method, params, Math.max(1, deadline - Date.now()))
      } catch (error) {
        if (!isChoraleError(error) || error.code !== 'unreachable' || Date.now() >= deadline) throw error
      }
    }
  }

  function onConnection(listener: (connection: Connection) => void): () => void {
    connectionListeners.add(listener)
    if (current !== undefined) listener(current)
    return () => connectionListeners.delete(listener)
  }

  use(await open())
  return {
    get status() {
      return status
    },
    watchStatus: (listener) => {
      statusListeners.add(listener)
      return () => statusListeners.delete(listener)
    },
    ask,
    callOnce: (method, params) =>
      current === undefined ? Promise.reject(away()) : current.call(method, params),
    onConnection,
    close: () => {
      stopped = true
      statusListeners.clear()
      connectionListeners.clear()
      wake()
      current?.close('closed')
    },
  }
}

function cancelled(): ChoraleError {
  return new ChoraleError('cancelled', 'cancelled while waiting for the ledger')
}
