import { describe, expect, it } from 'vitest'
import { createMetrics } from '../src/metrics.ts'

describe('createMetrics', () => {
  it('renders counters, gauges and histograms in the text format', () => {
    const metrics = createMetrics()
    metrics.counter('a_total', 'Things.', ['kind']).inc({ kind: 'x"y\\z\n' }, 2)
    const gauge = metrics.gauge('b', 'Now.')
    gauge.set(5)
    gauge.add(-2)
    const histogram = metrics.histogram('c_seconds', 'Took.', [0.1, 1])
    for (const value of [0.05, 0.1, 0.5, 3]) histogram.observe(value)
    const text = metrics.render()
    expect(text).toContain(
      '# HELP a_total Things.\n# TYPE a_total counter\na_total{kind="x\\"y\\\\z\\n"} 2\n',
    )
    expect(text).toContain('# TYPE b gauge\nb 3\n')
    expect(text).toContain(
      'c_seconds_bucket{le="0.1"} 2\nc_seconds_bucket{le="1"} 3\nc_seconds_bucket{le="+Inf"} 4\n',
    )
    expect(text).toContain('c_seconds_sum 3.65\nc_seconds_count 4\n')
    expect(text.endsWith('\n')).toBe(true)
  })

  it('shows the zero of metrics without labels', () => {
    const metrics = createMetrics()
    metrics.counter('a_total', 'A.')
    metrics.counter('b_total', 'B.', ['kind'])
    expect(metrics.render()).toContain('a_total 0\n')
    expect(metrics.render()).not.toContain('b_total{')
  })

  it('refuses more label sets than the limit and counts what it refused', () => {
    const metrics = createMetrics(3)
    const counter = metrics.counter('a_total', 'A.', ['who'])
    for (let i = 0; i < 10; i++) counter.inc({ who: String(i) })
    counter.inc({ who: '0' })
    const text = metrics.render()
    expect(text.match(/^a_total\{/gm)!.length).toBe(3)
    expect(text).toContain('a_total{who="0"} 2\n')
    expect(text).toContain('metrics_dropped_observations_total 7\n')
  })

  it('gives the same metric for the same name, refuses another kind and bad names', () => {
    const metrics = createMetrics()
    metrics.counter('a_total', 'A.').inc()
    metrics.counter('a_total', 'A.').inc()
    expect(metrics.render()).toContain('a_total 2\n')
    expect(() => metrics.gauge('a_total', 'A.')).toThrow(/already a counter/)
    expect(() => metrics.gauge('a-b', 'A.')).toThrow(/bad metric name/)
  })

  it('reads what something else keeps whenever it renders, within the limit', () => {
    const metrics = createMetrics(2)
    let open = 3
    metrics.watch('gauge', 'open', 'Open.', () => [[open]])
    metrics.watch(
      'counter',
      'a_total',
      'A.',
      () => [
        [1, { who: 'x' }],
        [2, { who: 'y' }],
        [3, { who: 'z' }],
      ],
      ['who'],
    )
    metrics.watch('gauge', 'broken', 'Broken.', () => {
      throw new Error('gone')
    })
    expect(metrics.render()).toContain('# TYPE open gauge\nopen 3\n')
    open = 4
    const text = metrics.render()
    expect(text).toContain('\nopen 4\n')
    expect(text).toContain('a_total{who="y"} 2\n')
    expect(text).not.toContain('who="z"')
    expect(text).toContain('# TYPE broken gauge\n#')
    metrics.watch('gauge', 'open', 'Open.', () => [[7]])
    expect(metrics.render()).toContain('\nopen 7\n')
  })

  it('a counter never goes down', () => {
    const metrics = createMetrics()
    const counter = metrics.counter('a_total', 'A.')
    counter.inc({}, 3)
    counter.inc({}, -2)
    expect(metrics.render()).toContain('a_total 3\n')
  })
})
