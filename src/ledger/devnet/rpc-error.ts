/** An error as JSON-RPC and Substrate's nodes word it; clients match on `code` and read `data`. */
export class RpcError extends Error {
  override readonly name = 'RpcError'
  readonly code: number
  readonly data: string | undefined

  constructor(code: number, message: string, data?: string) {
    super(message)
    this.code = code
    this.data = data
  }
}

/** Wrong or missing parameters. */
export function invalidParams(message: string): RpcError {
  return new RpcError(-32602, `Invalid params: ${message}`)
}

/** A block that this node does not have. */
export function unknownBlock(what: string): RpcError {
  return new RpcError(4003, `Client error: UnknownBlock: Header was not found in the database: ${what}`)
}

/** A block whose state is no longer kept. */
export function stateDiscarded(hash: string): RpcError {
  return new RpcError(4003, `Client error: UnknownBlock: State already discarded for ${hash}`)
}

/** An extrinsic that its chain's rules refuse. */
export function invalidTransaction(reason: string): RpcError {
  return new RpcError(1010, 'Invalid Transaction', reason)
}

/** An extrinsic whose validity nobody can tell. */
export function unknownValidity(reason: string): RpcError {
  return new RpcError(1011, 'Unknown Transaction Validity', reason)
}

/** An extrinsic that was refused a moment ago. */
export function temporarilyBanned(): RpcError {
  return new RpcError(1012, 'Transaction is temporarily banned')
}

/** An extrinsic that is in the pool. */
export function alreadyImported(hash: string): RpcError {
  return new RpcError(1013, 'Transaction Already Imported', `[${hash}]`)
}

/** An extrinsic that would replace one which pays more. */
export function tooLowPriority(known: bigint, given: bigint): RpcError {
  return new RpcError(
    1014,
    `Priority is too low: (${known} vs ${given})`,
    'The transaction has too low priority to replace another transaction already in the pool.',
  )
}

/** A full pool. */
export function immediatelyDropped(): RpcError {
  return new RpcError(
    1016,
    'Immediately Dropped',
    "The transaction couldn't enter the pool because of the limit",
  )
}
