import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openChainFile } from '../../../node/cli/devnet/chain-file.ts'
import { type JsonRpcServer, serveJsonRpc } from '../../../node/json-rpc-server.ts'
import { DEV_ACCOUNTS, DEV_BALANCE } from '../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode } from '../../../src/ledger/devnet/dev-node.ts'
import { createNativeRuntime, type NativeChainOptions } from '../../../src/ledger/devnet/native/runtime.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'

/** A native dev node with its chain on disk, behind a TCP port that stays the same and that can be slow or cut. */
export interface FaultyNode {
  readonly url: string
  /** The one that runs now. */
  readonly node: DevNode
  /** Added to all bytes, one way, in order. */
  delayMs: number
  /** Resets all connections; new ones are taken at once. */
  cut(): void
  /** As a process that is killed: connections are reset, the port is closed. */
  kill(): Promise<void>
  /** The same chain from the disk, on the same port; or another chain, or a later runtime. */
  start(options?: StartOptions): Promise<void>
  close(): Promise<void>
}

export interface StartOptions extends Pick<NativeChainOptions, 'specVersion' | 'pallets'> {
  /** Another genesis, and nothing from the disk. */
  readonly otherChain?: boolean
  readonly mode?: 'instant' | 'manual'
}

const HOST = '127.0.0.1'

export async function faultyNode(first: StartOptions = {}): Promise<FaultyNode> {
  const folder = mkdtempSync(join(tmpdir(), 'chorale-faults-'))
  const sockets = new Set<Socket>()
  let running: { readonly node: DevNode; readonly rpc: JsonRpcServer } | undefined
  let proxy: Server | undefined
  let port = 0
  let delayMs = 0

  const carry = (from: Socket, to: Socket): void => {
    let last = Promise.resolve()
    const later = (work: () => void): void => {
      const wait = new Promise<void>((resolve) => setTimeout(resolve, delayMs))
      const before = last
      last = wait.then(() => before).then(work)
    }
    from.on('data', (chunk: Buffer) =>
      delayMs > 0 ? later(() => void to.write(chunk)) : void last.then(() => to.write(chunk)),
    )
    from.on('error', () => to.destroy())
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
  }
  const listen = async (): Promise<void> => {
    proxy = createServer({ noDelay: true }, (inside) => {
      const outside = connect({ port: running?.rpc.port ?? 0, host: HOST, noDelay: true })
      sockets.add(inside).add(outside)
      carry(inside, outside)
      carry(outside, inside)
    })
    await new Promise<void>((resolve, reject) => proxy!.once('error', reject).listen(port, HOST, resolve))
    const address = proxy.address()
    port = typeof address === 'object' && address !== null ? address.port : 0
  }
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  const kill = async (): Promise<void> => {
    const { node, rpc } = running!
    running = undefined
    const gone = new Promise<void>((resolve) => proxy!.close(() => resolve()))
    cut()
    await gone
    await rpc.close()
    node.close()
  }
  const start = async ({
    otherChain = false,
    mode = 'instant',
    ...runtime
  }: StartOptions = {}): Promise<void> => {
    const balance = otherChain ? 10n ** 20n : DEV_BALANCE
    const endowed = Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, balance]))
    // An upgrade does not change where the chain began.
    const { genesis, properties } = createNativeRuntime({ endowed })
    const node = new DevNode({
      runtime: createNativeRuntime({ endowed, ...runtime }).runtime,
      genesis,
      properties,
      name: 'Faulty',
      mode,
      leastBlockMs: 6_000,
      ...(!otherChain && { log: openChainFile(folder) }),
    })
    running = { node, rpc: await serveJsonRpc(createRpcServer(node), { port: 0 }) }
    await listen()
  }
  await start(first)
  return {
    url: `ws://${HOST}:${port}`,
    get node() {
      return running!.node
    },
    get delayMs() {
      return delayMs
    },
    set delayMs(value) {
      delayMs = value
    },
    cut,
    kill,
    start,
    close: async () => {
      if (running) await kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
