import { isRecord, openConnection, type Socket } from './json-rpc.ts'

/** Blocks on demand, where a node offers them (`dev_newBlock`: this project's dev chain, chopsticks). */
export interface BlockMaker {
  make(count: number): Promise<void>
  close(): void
}

/** Limit of making some blocks: a real runtime takes 30 ms each, chopsticks a second. */
const TIMEOUT_MS = 120_000

/** Opens a connection of its own; undefined when the node makes no blocks on demand. @throws `unreachable`. */
export async function openBlockMaker(
  url: string,
  openSocket: (url: string) => Socket = (address) => new WebSocket(address),
): Promise<BlockMaker | undefined> {
  const connection = await openConnection(url, openSocket, TIMEOUT_MS)
  const said = await connection.call('rpc_methods', []).catch(() => undefined)
  const methods = isRecord(said) && Array.isArray(said['methods']) ? said['methods'] : []
  if (!methods.includes('dev_newBlock')) {
    connection.close('not needed')
    return undefined
  }
  return {
    make: async (count) => void (await connection.call('dev_newBlock', [{ count }])),
    close: () => connection.close('done'),
  }
}
