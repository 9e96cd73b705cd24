import type { DevNode } from './dev-node.ts'
import type { RpcParams } from './rpc-params.ts'

/** What a method's code may use. */
export interface RpcContext {
  readonly node: DevNode
  /** Subscriptions of the connection; undefined where it cannot push (HTTP). */
  readonly subscriptions: Subscriptions | undefined
  /** Names of all methods there are. */
  readonly methods: readonly string[]
}

/** Subscriptions of one connection; they end with it. */
export interface Subscriptions {
  /**
   * Opens one and starts it; what it pushes before the answer is sent follows the answer.
   * @param notification name of the messages it pushes
   * @param start begins pushing, returns how to stop
   * @returns its id
   * @throws RpcError over the limit.
   */
  open(notification: string, start: (push: (result: unknown) => void) => () => void): string
  /** Ends one. @returns whether there was such. */
  close(id: unknown): boolean
}

/** One method: its answer, or an RpcError thrown. */
export type RpcMethod = (context: RpcContext, params: RpcParams) => unknown

export type RpcMethods = Readonly<Record<string, RpcMethod>>
