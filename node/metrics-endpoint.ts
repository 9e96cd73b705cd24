import { ChoraleError } from '../src/errors.ts'
import type { Metrics } from '../src/metrics.ts'
import { type HttpServer, isLoopbackHost, serveHttp } from './http.ts'

/** Where metrics are shown. */
export interface MetricsPlace {
  readonly host: string
  /** 0 = any free one. */
  readonly port: number
}

/** Reads `9464`, `127.0.0.1:9464` or `[::1]:9464`; a port alone is of 127.0.0.1. @throws `bad_config`. */
export function parseMetricsPlace(text: string): MetricsPlace {
  const match = /^(?:(?<host>[0-9A-Za-z.-]{1,253}|\[[0-9a-fA-F:]{2,39}\]):)?(?<port>\d{1,5})$/.exec(text)
  const port = Number(match?.groups?.['port'])
  if (match === null || port > 65_535) {
    throw new ChoraleError(
      'bad_config',
      `--metrics ${text.slice(0, 80)}: give PORT or HOST:PORT, like 9464 or 127.0.0.1:9464`,
      { field: 'metrics' },
    )
  }
  const host = match.groups?.['host']?.replaceAll(/[[\]]/g, '') ?? '127.0.0.1'
  return { host, port }
}

/**
 * Shows metrics at `GET /metrics`, in Prometheus' text format. On loopback only requests to a loopback name are answered,
 * so that no page of the web reads them through a name of its own (DNS rebinding). Others see what this peer does, and
 * never whom it serves: labels name no peers.
 * @throws `bad_config` when the port is in use or the address is not this machine's.
 */
export async function serveMetrics(metrics: Metrics, { host, port }: MetricsPlace): Promise<HttpServer> {
  const loopback = isLoopbackHost(host)
  return await serveHttp(
    {
      fetch: (request) => {
        const { hostname, pathname } = new URL(request.url)
        if (loopback && !isLoopbackHost(hostname.replaceAll(/[[\]]/g, ''))) {
          return new Response('ask for it by a loopback name\n', { status: 403 })
        }
        if (pathname !== '/metrics') return new Response('see /metrics\n', { status: 404 })
        if (request.method !== 'GET') {
          return new Response('only GET\n', { status: 405, headers: { allow: 'GET' } })
        }
        return new Response(metrics.render(), {
          headers: {
            'content-type': 'text/plain; version=0.0.4; charset=utf-8',
            'cache-control': 'no-store',
          },
        })
      },
    },
    { host, port },
  )
}
