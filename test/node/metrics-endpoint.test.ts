import { describe, expect, it } from 'vitest'
import { parseMetricsPlace, serveMetrics } from '../../node/metrics-endpoint.ts'
import { watchLedger } from '../../node/ledger-metrics.ts'
import { createMetrics } from '../../src/metrics.ts'

describe('parseMetricsPlace', () => {
  it('takes a port, or a host and a port, and refuses anything else by the flag’s name', () => {
    expect(parseMetricsPlace('9464')).toEqual({ host: '127.0.0.1', port: 9464 })
    expect(parseMetricsPlace('0.0.0.0:0')).toEqual({ host: '0.0.0.0', port: 0 })
    expect(parseMetricsPlace('[::1]:9464')).toEqual({ host: '::1', port: 9464 })
    expect(parseMetricsPlace('box.lan:80')).toEqual({ host: 'box.lan', port: 80 })
    for (const text of ['', 'x', '70000', '::1:80', '127.0.0.1', 'http://a:1', '1:2:3', '80/metrics']) {
      expect(() => parseMetricsPlace(text), text).toThrow(/--metrics/)
    }
  })
})

describe('serveMetrics', () => {
  it('shows them at /metrics to loopback names only, for GET only', async () => {
    const metrics = createMetrics()
    metrics.counter('a_total', 'A.').inc({}, 3)
    const server = await serveMetrics(metrics, { host: '127.0.0.1', port: 0 })
    try {
      const answer = await fetch(`${server.url}/metrics`)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toContain('text/plain; version=0.0.4')
      expect(await answer.text()).toContain('a_total 3\n')
      expect((await fetch(`${server.url}/`)).status).toBe(404)
      expect((await fetch(`${server.url}/metrics`, { method: 'POST' })).status).toBe(405)
      const { request } = await import('node:http')
      const rebound = await new Promise<number | undefined>((resolve, reject) => {
        const asked = request(`${server.url}/metrics`, { headers: { host: 'evil.example' } }, (got) => {
          got.resume()
          resolve(got.statusCode)
        })
        asked.on('error', reject)
        asked.end()
      })
      expect(rebound).toBe(403)
      await expect(serveMetrics(metrics, { host: '127.0.0.1', port: server.port })).rejects.toMatchObject({
        code: 'bad_config',
      })
    } finally {
      await server.close(0)
    }
  })
})

describe('watchLedger', () => {
  it('shows the state of the connection, and how far the ledger is final', async () => {
    const metrics = createMetrics()
    const ledger = {
      status: { state: 'reachable', since: 0 } as const,
      head: () => Promise.resolve({ number: 12, hash: '0x1', finalizedNumber: 10, finalizedHash: '0x0' }),
    }
    const stop = watchLedger(metrics, ledger, { block: 11, nodes: [] })
    await Promise.resolve()
    await Promise.resolve()
    stop()
    const text = metrics.render()
    expect(text).toContain('chorale_ledger_state{state="reachable"} 1\n')
    expect(text).toContain('chorale_ledger_state{state="unreachable"} 0\n')
    expect(text).toContain('chorale_ledger_finalised_block 10\n')
    expect(text).toContain('chorale_ledger_read_block 11\n')
  })
})
