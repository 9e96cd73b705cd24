import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { ChoraleError } from '../src/errors.ts'
import type { RpcServer } from '../src/ledger/devnet/rpc-server.ts'

export interface JsonRpcServerOptions {
  /** Address to listen on; default 127.0.0.1: only this machine. */
  readonly host?: string
  /** 0 = any free one. */
  readonly port: number
  /** Web origins (`https://…`) whose pages may connect besides those of this machine; `*` = all. */
  readonly allowOrigins?: readonly string[]
  readonly maxConnections?: number
}

export interface JsonRpcServer {
  /** `ws://host:port`. HTTP POST is answered there too. */
  readonly url: string
  readonly port: number
  close(): Promise<void>
}

/** Open sockets: each holds memory even when idle. */
const MAX_CONNECTIONS = 256
/** Bytes of one message; the RPC core's own limit is in characters and smaller. */
const MAX_MESSAGE_BYTES = 16 * 2 ** 20
/** Unsent bytes after which a client that does not read is cut. */
const MAX_UNSENT_BYTES = 64 * 2 ** 20
/** A socket that does not answer a ping until the next one is gone. */
const PING_MS = 30_000
const HEADERS_MS = 10_000
const REQUEST_MS = 30_000
const POLICY_VIOLATION = 1008

/**
 * Serves a JSON-RPC core over WebSocket and HTTP POST on one port.
 *
 * Pages of other sites must not reach a node on somebody's machine: a `Host` that is a foreign name (DNS rebinding) and
 * an `Origin` that is neither of this machine nor allowed are refused.
 * @throws `bad_config` when the port is in use or may not be used.
 */
export async function serveJsonRpc(rpc: RpcServer, options: JsonRpcServerOptions): Promise<JsonRpcServer> {
  const host = options.host ?? '127.0.0.1'
  const allowed = new Set(options.allowOrigins)
  const mayEnter = (request: IncomingMessage) =>
    isKnownHost(request.headers.host, host) && isKnownOrigin(request.headers.origin, allowed)
  const server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS },
    (request, response) => answerHttp(rpc, request, response, mayEnter(request)),
  )
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
  })
  const maxConnections = options.maxConnections ?? MAX_CONNECTIONS
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (!mayEnter(request)) return refuse(socket, '403 Forbidden')
    if (sockets.clients.size >= maxConnections) return refuse(socket, '429 Too Many Requests')
    sockets.handleUpgrade(request, socket, head, (client) => attach(rpc, client))
  })
  const pulse = setInterval(() => pingAll(sockets), PING_MS).unref()
  await listen(server, host, options.port)
  const { port } = server.address() as AddressInfo
  return {
    url: `ws://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    close: () =>
      new Promise((resolve) => {
        clearInterval(pulse)
        for (const client of sockets.clients) client.terminate()
        sockets.close()
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Sockets that have answered since the last ping. */
const alive = new WeakSet<WebSocket>()

function attach(rpc: RpcServer, client: WebSocket): void {
  const connection = rpc.connect((text) => {
    if (client.readyState !== client.OPEN) return
    if (client.bufferedAmount > MAX_UNSENT_BYTES) client.close(POLICY_VIOLATION, 'too slow')
    else client.send(text)
  })
  alive.add(client)
  client.on('pong', () => alive.add(client))
  client.on('message', (data: Buffer, isBinary) => {
    if (isBinary) client.close(1003, 'JSON-RPC is text')
    else connection.receive(data.toString('utf8'))
  })
  client.on('close', () => connection.close())
  client.on('error', () => client.terminate())
}

function pingAll(sockets: WebSocketServer): void {
  for (const client of sockets.clients) {
    if (!alive.has(client)) {
      client.terminate()
      continue
    }
    alive.delete(client)
    client.ping()
  }
}

function answerHttp(
  rpc: RpcServer,
  request: IncomingMessage,
  response: ServerResponse,
  mayEnter: boolean,
): void {
  const { origin } = request.headers
  const cors = origin === undefined ? {} : { 'access-control-allow-origin': origin, vary: 'origin' }
  const end = (status: number, text: string, headers: Record<string, string> = {}) => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers })
    response.end(text)
  }
  if (!mayEnter) return end(403, 'this host or origin is not allowed\n')
  if (request.method === 'OPTIONS') {
    return end(204, '', {
      ...cors,
      'access-control-allow-methods': 'POST',
      'access-control-allow-headers': 'content-type',
    })
  }
  if (request.method !== 'POST') {
    return end(405, 'JSON-RPC: connect a WebSocket, or POST a request\n', { allow: 'POST, OPTIONS' })
  }
  // A form on any page may post text/plain without asking; JSON it may not.
  if (!/^application\/json\b/.test(request.headers['content-type'] ?? '')) {
    return end(415, 'content-type must be application/json\n', cors)
  }
  const chunks: Buffer[] = []
  let size = 0
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > MAX_MESSAGE_BYTES) request.destroy()
    else chunks.push(chunk)
  })
  request.on('error', () => response.destroy())
  request.on('end', () => {
    const answer = rpc.answer(Buffer.concat(chunks).toString('utf8'))
    end(answer === undefined ? 204 : 200, answer ?? '', { ...cors, 'content-type': 'application/json' })
  })
}

/** Addresses and this machine's names are what they say; any other name may have been bent to point here. */
function isKnownHost(header: string | undefined, bound: string): boolean {
  if (header === undefined) return true
  const name = /^(\[[0-9a-fA-F:]+\]|[^:]*)(?::\d+)?$/.exec(header)?.[1]?.toLowerCase()
  if (name === undefined) return false
  return (
    name === 'localhost' ||
    name.endsWith('.localhost') ||
    name === bound.toLowerCase() ||
    name.startsWith('[') ||
    /^\d{1,3}(\.\d{1,3}){3}$/.test(name)
  )
}

function isKnownOrigin(header: string | undefined, allowed: ReadonlySet<string>): boolean {
  if (header === undefined || allowed.has('*') || allowed.has(header)) return true
  return /^(https?:\/\/(localhost|[a-z0-9.-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?|file:\/\/.*)$/.test(
    header,
  )
}

function refuse(socket: Duplex, status: string): void {
  socket.on('error', () => undefined)
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE'
          ? `port ${port} on ${host} is in use; choose another with --port, or any free one with --port 0`
          : `cannot listen on ${host}:${port}: ${error.message}`
      reject(new ChoraleError('bad_config', reason, { cause: error, field: 'port' }))
    })
    server.listen(port, host, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}
