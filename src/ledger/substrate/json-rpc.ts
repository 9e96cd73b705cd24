import { ChoraleError, errorMessage } from '../../errors.ts'

/** What a JSON-RPC connection needs of a WebSocket: the platform's own fits. */
export interface Socket {
  readonly readyState: number
  send(text: string): void
  close(): void
  addEventListener(type: 'open' | 'close' | 'error', listener: () => void): void
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void
}

/** One connection to a node. It never reconnects: `reconnecting.ts` makes the next one. */
export interface Connection {
  /**
   * @throws `unreachable` when the connection is or gets lost, `timeout` after `timeoutMs`, `ledger` when the node answers
   * with an error (`RpcError`).
   */
  call(method: string, params: readonly unknown[], timeoutMs?: number): Promise<unknown>
  /** Calls back for every notification until the connection or the returned function ends it. */
  subscribe(
    methods: { readonly subscribe: string; readonly unsubscribe: string },
    params: readonly unknown[],
    listener: (result: unknown) => void,
  ): Promise<() => void>
  /** Resolves with the reason once the connection is gone. */
  readonly closed: Promise<string>
  close(reason: string): void
}

/** A node's error answer; `rpcCode` as JSON-RPC and Substrate number them (1010 = invalid transaction). */
export class RpcError extends ChoraleError {
  readonly rpcCode: number
  /** The `data` of the answer as text: Substrate puts the reason there. */
  readonly data: string

  constructor(method: string, rpcCode: number, message: string, data: string) {
    super('ledger', `the node refused ${method}: ${message}${data === '' ? '' : ` (${data})`}`)
    this.rpcCode = rpcCode
    this.data = data
  }
}

/** Defends memory against a node that answers without end: metadata is about 1 MB of hex, a full block 10 MB. */
const MAX_MESSAGE_CHARS = 64 * 1024 * 1024
/** Defends memory against a node that never answers. */
const MAX_PENDING = 4096
/** Notifications kept for a subscription whose id has not arrived yet. */
const MAX_EARLY = 256
/** Longest part of a node's message that is shown. */
const MAX_REASON = 500

interface Pending {
  readonly method: string
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: ReturnType<typeof setTimeout>
}

/** Opens a connection to `url`. @throws `unreachable` when it does not open within `timeoutMs`. */
export async function openConnection(
  url: string,
  openSocket: (url: string) => Socket,
  timeoutMs: number,
): Promise<Connection> {
  let socket: Socket
  try {
    socket = openSocket(url)
  } catch (error) {
    throw new ChoraleError('unreachable', `no ledger node at ${url}: ${errorMessage(error)}`, {
      cause: error,
    })
  }
  await new Promise<void>((resolve, reject) => {
    let done = false
    const fail = (why: string): void => {
      if (done) return
      done = true
      clearTimeout(timer)
      socket.close()
      reject(new ChoraleError('unreachable', `no ledger node at ${url}: ${why}`))
    }
    const timer = setTimeout(() => fail(`no connection within ${timeoutMs} ms`), timeoutMs)
    socket.addEventListener('open', () => {
      done = true
      clearTimeout(timer)
      resolve()
    })
    socket.addEventListener('error', () => fail('the connection was refused'))
    socket.addEventListener('close', () => fail('the connection was closed'))
  })
  return speak(url, socket, timeoutMs)
}

function speak(url: string, socket: Socket, defaultTimeoutMs: number): Connection {
  const pending = new Map<number, Pending>()
  const subscriptions = new Map<string, (result: unknown) => void>()
  const early = new Map<string, unknown[]>()
  let earlyCount = 0
  let nextId = 1
  let gone: string | undefined
  let end: (reason: string) => void = () => undefined
  const closed = new Promise<string>((resolve) => (end = resolve))

  const lost = (): ChoraleError =>
    new ChoraleError('unreachable', `the connection to the ledger node at ${url} was lost: ${gone ?? ''}`)

  function close(reason: string): void {
    if (gone !== undefined) return
    gone = reason
    socket.close()
    for (const { reject, timer } of pending.values()) {
      clearTimeout(timer)
      reject(lost())
    }
    pending.clear()
    subscriptions.clear()
    early.clear()
    end(reason)
  }

  function receive(data: unknown): void {
    if (gone !== undefined) return
    if (typeof data !== 'string') return close('it sent bytes instead of JSON')
    if (data.length > MAX_MESSAGE_CHARS) return close(`it sent more than ${MAX_MESSAGE_CHARS} characters`)
    let message: unknown
    try {
      message = JSON.parse(data)
    } catch {
      return close('it sent no JSON')
    }
    if (!isRecord(message)) return close('it sent no JSON-RPC message')
    if (typeof message['id'] === 'number') answer(message['id'], message)
    else if (isRecord(message['params'])) notify(message['params'])
  }

  function answer(id: number, message: Record<string, unknown>): void {
    const waiting = pending.get(id)
    if (waiting === undefined) return
    pending.delete(id)
    clearTimeout(waiting.timer)
    const error = message['error']
    if (error === undefined || error === null) return waiting.resolve(message['result'])
    const { code, message: text, data } = isRecord(error) ? error : {}
    waiting.reject(
      new RpcError(waiting.method, typeof code === 'number' ? code : 0, shown(text), shown(data)),
    )
  }

  function notify(params: Record<string, unknown>): void {
    const id = String(params['subscription'])
    const listener = subscriptions.get(id)
    if (listener !== undefined) return listener(params['result'])
    if (++earlyCount > MAX_EARLY) {
      early.clear()
      earlyCount = 0
    }
    early.set(id, [...(early.get(id) ?? []), params['result']])
  }

  function call(method: string, params: readonly unknown[], timeoutMs = defaultTimeoutMs): Promise<unknown> {
    if (gone !== undefined) return Promise.reject(lost())
    if (pending.size >= MAX_PENDING) {
      return Promise.reject(new ChoraleError('capacity', `${MAX_PENDING} calls wait for the node at ${url}`))
    }
    return new Promise((resolve, reject) => {
      const id = nextId++
      const timer = setTimeout(() => {
        pending.delete(id)
        reject(
          new ChoraleError('timeout', `the node at ${url} did not answer ${method} within ${timeoutMs} ms`),
        )
      }, timeoutMs)
      pending.set(id, { method, resolve, reject, timer })
      try {
        socket.send(JSON.stringify({ id, jsonrpc: '2.0', method, params }))
      } catch (error) {
        close(errorMessage(error))
      }
    })
  }

  async function subscribe(
    methods: { readonly subscribe: string; readonly unsubscribe: string },
    params: readonly unknown[],
    listener: (result: unknown) => void,
  ): Promise<() => void> {
    const raw = await call(methods.subscribe, params)
    const id = String(raw)
    subscriptions.set(id, listener)
    const before = early.get(id) ?? []
    early.delete(id)
    for (const result of before) listener(result)
    return () => {
      if (subscriptions.delete(id)) call(methods.unsubscribe, [raw]).catch(() => undefined)
    }
  }

  socket.addEventListener('message', ({ data }) => receive(data))
  socket.addEventListener('close', () => close('the node closed it'))
  socket.addEventListener('error', () => close('it broke'))
  return { call, subscribe, closed, close }
}

/** A node's text, short and without control characters: it goes to terminals. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return ''
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
  return text.slice(0, MAX_REASON).replaceAll(/\p{Cc}/gu, ' ')
}

/** Whether a parsed JSON value is an object with names. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
