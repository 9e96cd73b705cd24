import { bytesToHex } from '@noble/hashes/utils.js'
import { errorMessage } from '../../errors.ts'
import { type Logger, silentLogger } from '../../log.ts'
import type { DevNode } from './dev-node.ts'
import { AUTHOR_METHODS } from './rpc-author.ts'
import { CHAIN_METHODS } from './rpc-chain.ts'
import { DEV_METHODS } from './rpc-dev.ts'
import { RpcError } from './rpc-error.ts'
import type { RpcContext, RpcMethods, Subscriptions } from './rpc-method.ts'
import { networkMethods } from './rpc-network.ts'
import { RpcParams } from './rpc-params.ts'
import { PAYMENT_METHODS } from './rpc-payment.ts'
import { STATE_METHODS } from './rpc-state.ts'
import { SYSTEM_METHODS } from './rpc-system.ts'

/** Defends the node against clients that ask too much. */
export interface RpcLimits {
  /** Characters of one message. */
  readonly message: number
  /** Requests of one batch. */
  readonly batch: number
  /** Subscriptions of one connection. */
  readonly subscriptions: number
}

export const RPC_LIMITS: RpcLimits = { message: 15 * 2 ** 20, batch: 200, subscriptions: 1024 }

/** A client's connection. */
export interface RpcConnection {
  /** Takes in one message; answers go out through the connection's `send`, before this returns. */
  receive(text: string): void
  /** Ends its subscriptions. */
  close(): void
}

/** JSON-RPC 2.0 over a dev node, apart from how messages travel. */
export interface RpcServer {
  readonly methods: readonly string[]
  /** A connection that can push. */
  connect(send: (text: string) => void): RpcConnection
  /** Answers one message on its own; undefined when it wants no answer. */
  answer(text: string): string | undefined
}

/** Serves Substrate's JSON-RPC for a node. */
export function createRpcServer(
  node: DevNode,
  options: { readonly limits?: Partial<RpcLimits>; readonly logger?: Logger } = {},
): RpcServer {
  const limits = { ...RPC_LIMITS, ...options.limits }
  const logger = options.logger ?? silentLogger
  const table: RpcMethods = {
    ...AUTHOR_METHODS,
    ...CHAIN_METHODS,
    ...DEV_METHODS,
    ...PAYMENT_METHODS,
    ...STATE_METHODS,
    ...SYSTEM_METHODS,
    ...networkMethods(node.runtime),
  }
  const methods = Object.keys(table).sort()
  const respond = (text: string, subscriptions: Subscriptions | undefined) =>
    respondTo(text, table, { node, subscriptions, methods }, limits, logger)
  return {
    methods,
    connect: (send) => new Connection(send, respond, limits.subscriptions),
    answer: (text) => respond(text, undefined),
  }
}

class Connection implements RpcConnection, Subscriptions {
  readonly #send: (text: string) => void
  readonly #respond: (text: string, subscriptions: Subscriptions) => string | undefined
  readonly #limit: number
  readonly #open = new Map<string, () => void>()
  /** Notifications that wait for the answer under way. */
  #held: string[] | undefined

  constructor(
    send: (text: string) => void,
    respond: (text: string, subscriptions: Subscriptions) => string | undefined,
    limit: number,
  ) {
    this.#send = send
    this.#respond = respond
    this.#limit = limit
  }

  receive(text: string): void {
    const held: string[] = []
    this.#held = held
    const answer = this.#respond(text, this)
    this.#held = undefined
    if (answer !== undefined) this.#send(answer)
    for (const notification of held) this.#send(notification)
  }

  open(notification: string, start: (push: (result: unknown) => void) => () => void): string {
    if (this.#open.size >= this.#limit) {
      throw new RpcError(
        -32006,
        'Too many subscriptions on the connection',
        `Exceeded max limit of ${this.#limit}`,
      )
    }
    const id = subscriptionId()
    this.#open.set(id, () => undefined)
    const stop = start((result) => {
      if (!this.#open.has(id)) return
      const text = JSON.stringify({
        jsonrpc: '2.0',
        method: notification,
        params: { subscription: id, result },
      })
      if (this.#held === undefined) this.#send(text)
      else this.#held.push(text)
    })
    this.#open.set(id, stop)
    return id
  }

  close(id?: unknown): boolean {
    if (id === undefined) {
      for (const stop of this.#open.values()) stop()
      this.#open.clear()
      return true
    }
    const stop = typeof id === 'string' ? this.#open.get(id) : undefined
    if (stop === undefined) return false
    this.#open.delete(id as string)
    stop()
    return true
  }
}

/** Not to be guessed, nor to be mixed up with one of another connection. */
function subscriptionId(): string {
  return bytesToHex(crypto.getRandomValues(new Uint8Array(8)))
}

type Answer = Readonly<Record<string, unknown>>

function respondTo(
  text: string,
  table: RpcMethods,
  context: RpcContext,
  limits: RpcLimits,
  logger: Logger,
): string | undefined {
  if (text.length > limits.message) {
    return JSON.stringify(
      failure(null, -32007, 'Request is too big', `Exceeded max limit of ${limits.message}`),
    )
  }
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return JSON.stringify(failure(null, -32700, 'Parse error'))
  }
  if (!Array.isArray(message)) {
    const answer = respondToOne(message, table, context, logger)
    return answer && JSON.stringify(answer)
  }
  if (message.length === 0) return JSON.stringify(failure(null, -32600, 'Invalid request'))
  if (message.length > limits.batch) {
    const reason = `Exceeded max limit of ${limits.batch}`
    return JSON.stringify(failure(null, -32010, 'The batch request was too large', reason))
  }
  const answers = message
    .map((entry: unknown) => respondToOne(entry, table, context, logger))
    .filter((answer) => answer !== undefined)
  return answers.length === 0 ? undefined : JSON.stringify(answers)
}

function respondToOne(
  message: unknown,
  table: RpcMethods,
  context: RpcContext,
  logger: Logger,
): Answer | undefined {
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    return failure(null, -32600, 'Invalid request')
  }
  const { id, method, params, jsonrpc } = message as Record<string, unknown>
  const name = typeof id === 'string' || typeof id === 'number' ? id : null
  if (jsonrpc !== '2.0' || typeof method !== 'string') return failure(name, -32600, 'Invalid request')
  if (id === undefined) return undefined // a notification: nothing here acts without an answer
  const run = Object.hasOwn(table, method) ? table[method] : undefined
  if (run === undefined) return failure(name, -32601, 'Method not found')
  if (params !== undefined && params !== null && !Array.isArray(params)) {
    return failure(name, -32602, 'Invalid params: only parameters by position are read here')
  }
  try {
    const result = run(context, new RpcParams(params ?? [])) ?? null
    return { jsonrpc: '2.0', id: name, result }
  } catch (error) {
    if (error instanceof RpcError) return failure(name, error.code, error.message, error.data)
    logger.debug('request failed', { method, reason: errorMessage(error) })
    return failure(name, 4003, `Client error: Execution failed: ${errorMessage(error)}`)
  }
}

function failure(id: string | number | null, code: number, message: string, data?: string): Answer {
  return { jsonrpc: '2.0', id, error: data === undefined ? { code, message } : { code, message, data } }
}
