import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runChorale, startChorale } from './run-chorale.ts'

const POLICY = join(import.meta.dirname, '../vectors/policy/span-squared.wasm')

describe('chorale serve --metrics', () => {
  it('says where its metrics are, and shows sessions, memory, steps, refusals and receipts there', async () => {
    const args = ['serve', '--blocks', '0:2', '--listen', '/ip4/127.0.0.1/tcp/0', '--metrics', '0', '--json']
    const { child, out, ended } = startChorale([...args, '--engine', 'reference'])
    try {
      const deadline = Date.now() + 30_000
      while (!out().includes('"event":"metrics"')) {
        if (Date.now() > deadline) throw new Error(`no metrics within 30 s: ${out()}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      const { url } = out()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { event: string; url?: string })
        .find(({ event }) => event === 'metrics')!
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
      const text = await (await fetch(url!)).text()
      for (const line of [
        /^chorale_sessions_open\{model="storyteller@[0-9a-f]+"\} 0$/m,
        /^chorale_kv_limit_bytes\{model=".+"\} [1-9]\d+$/m,
        /^chorale_kv_used_bytes\{model=".+"\} 0$/m,
        /^chorale_blocks_end\{model=".+"\} 2$/m,
        /^chorale_tokens_served_total 0$/m,
        /^chorale_hop_bytes_total\{direction="out"\} 0$/m,
        /^chorale_queued_steps 0$/m,
        /^# TYPE chorale_step_seconds histogram$/m,
        /^# TYPE chorale_span_refusals_total counter$/m,
        /^# TYPE chorale_gossip_messages_total counter$/m,
        /^chorale_receipts_given_total\{result="forged"\} 0$/m,
      ]) {
        expect(text).toMatch(line)
      }
      // What Prometheus would not take: a name without a type, or a counter that does not end in _total.
      for (const [, name, kind] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
        expect(name!.endsWith('_total'), name).toBe(kind === 'counter')
      }
    } finally {
      child.kill('SIGTERM')
      await ended
    }
  }, 60_000)

  it('flags that make no sense are refused before anything is loaded', async () => {
    const [metrics, policy] = await Promise.all([
      runChorale(['serve', '--metrics', '127.0.0.1']),
      runChorale(['serve', '--policy', POLICY]),
    ])
    expect(metrics.code).not.toBe(0)
    expect(metrics.err).toMatch(/--metrics 127\.0\.0\.1: give PORT or HOST:PORT/)
    expect(policy.code).not.toBe(0)
    expect(policy.err).toMatch(/--policy needs --hotkey/)
  }, 60_000)
})
