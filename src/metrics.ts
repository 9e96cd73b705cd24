/** Counters, gauges and histograms with Prometheus' text format; the same numbers feed every dashboard. */

export type Labels = Readonly<Record<string, string>>

export interface Counter {
  /** Adds `by` (default 1, never negative). */
  inc(labels?: Labels, by?: number): void
}

export interface Gauge {
  set(value: number, labels?: Labels): void
  /** Adds `by`, which may be negative. */
  add(by: number, labels?: Labels): void
}

export interface Histogram {
  observe(value: number, labels?: Labels): void
}

export interface Metrics {
  counter(name: string, help: string, labelNames?: readonly string[]): Counter
  gauge(name: string, help: string, labelNames?: readonly string[]): Gauge
  /** `buckets`: upper bounds, rising; +Inf is added. */
  histogram(name: string, help: string, buckets: readonly number[], labelNames?: readonly string[]): Histogram
  /**
   * Values that something else keeps, read whenever metrics are rendered: `read` gives each with its labels. Registering
   * a name again replaces `read`. What it throws leaves the metric out.
   */
  watch(
    kind: 'counter' | 'gauge',
    name: string,
    help: string,
    read: () => Iterable<readonly [value: number, labels?: Labels]>,
    labelNames?: readonly string[],
  ): void
  /** Prometheus text exposition format 0.0.4. */
  render(): string
}

/** Label sets a metric may hold: stops a label that takes a caller's text from filling the memory. */
const MAX_LABEL_SETS = 256
const NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/

interface Family {
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labelNames: readonly string[]
  readonly buckets: readonly number[]
  /** By rendered label set; a histogram holds one count a bucket, then the count of all, then the sum. */
  readonly series: Map<string, Float64Array>
  read?: () => Iterable<readonly [value: number, labels?: Labels]>
}

/**
 * An empty registry. Registering a name again gives the same metric.
 *
 * Observations that would open more than `maxLabelSets` label sets of one metric are dropped and counted in
 * `metrics_dropped_observations_total`: metrics never make a request fail.
 */
export function createMetrics(maxLabelSets = MAX_LABEL_SETS): Metrics {
  const families = new Map<string, Family>()
  let dropped = 0

  function family(
    kind: Family['kind'],
    name: string,
    help: string,
    labelNames: readonly string[],
    buckets: readonly number[] = [],
  ): Family {
    const known = families.get(name)
    if (known !== undefined) {
      if (known.kind !== kind) throw new TypeError(`metric ${name} is already a ${known.kind}`)
      return known
    }
    for (const word of [name, ...labelNames])
      if (!NAME.test(word)) throw new TypeError(`bad metric name ${word}`)
    const created: Family = { kind, help, labelNames, buckets, series: new Map() }
    families.set(name, created)
    // A metric without labels shows its zero from the start, so that rates work on the first event.
    if (labelNames.length === 0) seriesOf(created, {})
    return created
  }

  function seriesOf(of: Family, labels: Labels): Float64Array | undefined {
    const key = of.labelNames.map((name) => `${name}="${escapeLabel(labels[name] ?? '')}"`).join(',')
    let series = of.series.get(key)
    if (series === undefined) {
      if (of.series.size >= maxLabelSets) {
        dropped++
        return undefined
      }
      series = new Float64Array(of.kind === 'histogram' ? of.buckets.length + 2 : 1)
      of.series.set(key, series)
    }
    return series
  }

  function addTo(of: Family, by: number, labels: Labels): void {
    const series = seriesOf(of, labels)
    if (series !== undefined) series[0] = (series[0] ?? 0) + by
  }

  function refresh(of: Family, read: NonNullable<Family['read']>): void {
    of.series.clear()
    try {
      for (const [value, labels = {}] of read()) seriesOf(of, labels)?.fill(value)
    } catch {
      of.series.clear()
    }
  }

  return {
    counter: (name, help, labelNames = []) => {
      const of = family('counter', name, help, labelNames)
      return { inc: (labels = {}, by = 1) => by >= 0 && addTo(of, by, labels) }
    },
    gauge: (name, help, labelNames = []) => {
      const of = family('gauge', name, help, labelNames)
      return {
        set: (value, labels = {}) => void seriesOf(of, labels)?.fill(value),
        add: (by, labels = {}) => addTo(of, by, labels),
      }
    },
    histogram: (name, help, buckets, labelNames = []) => {
      const of = family('histogram', name, help, labelNames, buckets)
      return {
        observe: (value, labels = {}) => {
          const series = seriesOf(of, labels)
          if (series === undefined || Number.isNaN(value)) return
          buckets.forEach((bound, i) => {
            if (value <= bound) series[i] = (series[i] ?? 0) + 1
          })
          series[buckets.length] = (series[buckets.length] ?? 0) + 1
          series[buckets.length + 1] = (series[buckets.length + 1] ?? 0) + value
        },
      }
    },
    watch: (kind, name, help, read, labelNames = []) => {
      family(kind, name, help, labelNames).read = read
    },
    render: () => {
      const lines: string[] = []
      for (const [name, of] of families) {
        if (of.read) refresh(of, of.read)
        lines.push(`# HELP ${name} ${escapeHelp(of.help)}`, `# TYPE ${name} ${of.kind}`)
        for (const [key, values] of of.series) lines.push(...seriesLines(name, of, key, values))
      }
      lines.push(
        '# HELP metrics_dropped_observations_total Observations refused because a metric had too many label sets.',
        '# TYPE metrics_dropped_observations_total counter',
        `metrics_dropped_observations_total ${dropped}`,
      )
      return `${lines.join('\n')}\n`
    },
  }
}

function seriesLines(name: string, of: Family, key: string, values: Float64Array): string[] {
  const braces = (extra = '') => {
    const inside = [key, extra].filter((part) => part !== '').join(',')
    return inside === '' ? '' : `{${inside}}`
  }
  if (of.kind !== 'histogram') return [`${name}${braces()} ${format(values[0] ?? 0)}`]
  const count = values[of.buckets.length] ?? 0
  return [
    ...of.buckets.map((bound, i) => `${name}_bucket${braces(`le="${bound}"`)} ${format(values[i] ?? 0)}`),
    `${name}_bucket${braces('le="+Inf"')} ${format(count)}`,
    `${name}_sum${braces()} ${format(values[of.buckets.length + 1] ?? 0)}`,
    `${name}_count${braces()} ${format(count)}`,
  ]
}

function format(value: number): string {
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

function escapeHelp(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}
