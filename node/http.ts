import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { ChoraleError, errorMessage } from '../src/errors.ts'

export interface ServeHttpOptions {
  /** Address or name to listen on; default 127.0.0.1: only this machine. */
  readonly host?: string
  /** 0 = any free one. */
  readonly port: number
}

export interface HttpServer {
  /** `http://host:port`, without a slash at the end. */
  readonly url: string
  readonly port: number
  /** Takes no more requests, lets those under way end within `graceMs` (default 5 s), then cuts them. */
  close(graceMs?: number): Promise<void>
}

/** Milliseconds to send a request's headers and all of it: connections that trickle don't pile up. */
const HEADERS_MS = 15_000
const REQUEST_MS = 60_000
/** Open connections: each holds memory even when idle. */
const MAX_CONNECTIONS = 512
const DEFAULT_GRACE_MS = 5000
const SWEEP_MS = 20

/**
 * Serves a fetch-style app over HTTP/1.1.
 * @throws `bad_config` when the port is in use or may not be used, or the host is not this machine's.
 */
export async function serveHttp(
  app: { readonly fetch: (request: Request) => Response | Promise<Response> },
  options: ServeHttpOptions,
): Promise<HttpServer> {
  const host = options.host ?? '127.0.0.1'
  const server = createAdaptorServer({
    // Wrapped: the app must not see the server's own objects as its bindings.
    fetch: (request) => app.fetch(request),
    hostname: host,
    serverOptions: { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS },
  }) as Server
  server.maxConnections = MAX_CONNECTIONS
  await listen(server, host, options.port)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    close: (graceMs = DEFAULT_GRACE_MS) =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), graceMs)
        // A connection whose answer has ended is kept alive for a next request, which will not come.
        const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS)
        server.close(() => {
          clearTimeout(cut)
          clearInterval(sweep)
          resolve()
        })
      }),
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new ChoraleError('bad_config', listenMessage(error, host, port), { cause: error, field: 'port' }),
      )
    })
    server.listen(port, host, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

function listenMessage(error: NodeJS.ErrnoException, host: string, port: number): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return `port ${port} on ${host} is in use; choose another with --port, or any free one with --port 0`
    case 'EACCES':
      return `port ${port} on ${host} needs more rights than this user has; choose one above 1023 with --port`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${host} is not an address of this machine; choose another with --host, e.g. 127.0.0.1 or 0.0.0.0`
    default:
      return `can't listen on ${host} port ${port}: ${errorMessage(error)}`
  }
}

/** Whether only this machine can reach a server bound to `host`. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}
