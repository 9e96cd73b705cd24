import type { SwarmState } from '../session/gateway.ts'
import { strings } from '../strings.ts'
import { coverageOf, uncovered } from './coverage.ts'

/** How well a model is served, in a mark and words. */
export function healthOf(state: SwarmState): {
  readonly kind: 'healthy' | 'thin' | 'broken'
  readonly text: string
} {
  const coverage = coverageOf(state)
  const gaps = uncovered(coverage)
  if (gaps.length > 0) {
    const blocks = gaps.map(({ start, end }) => strings.blocks(start, end)).join(', ')
    return { kind: 'broken', text: strings.health.broken(blocks) }
  }
  return Math.min(...coverage) > 1
    ? { kind: 'healthy', text: strings.health.healthy }
    : { kind: 'thin', text: strings.health.thin }
}

const MARKS = { healthy: '●', thin: '◐', broken: '○' } as const

export function HealthBadge({ state }: { readonly state: SwarmState }) {
  const { kind, text } = healthOf(state)
  return (
    <span class={`badge ${kind}`}>
      <span aria-hidden="true">{MARKS[kind]} </span>
      {text}
    </span>
  )
}
