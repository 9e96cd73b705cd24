import type { ModelView } from '../session/gateway.ts'
import { strings } from '../strings.ts'

type Coverage = Pick<ModelView, 'complete' | 'missing' | 'weakest'>

/** Whether a model can answer, in a mark and words: complete, complete by a hair, or short of which blocks. */
export function modelHealth({ complete, missing, weakest }: Coverage): {
  readonly kind: 'healthy' | 'thin' | 'broken'
  readonly text: string
} {
  const words = strings.models
  if (!complete) {
    const blocks = missing.map(({ start, end }) => strings.blocks(start, end)).join(', ')
    return { kind: 'broken', text: words.short(blocks) }
  }
  return (weakest?.servers ?? 0) > 1
    ? { kind: 'healthy', text: words.complete }
    : { kind: 'thin', text: words.thin }
}

const MARKS = { healthy: '●', thin: '◐', broken: '○' } as const

/** `modelHealth` as a badge. */
export function ModelBadge({ model }: { readonly model: Coverage }) {
  const { kind, text } = modelHealth(model)
  return (
    <span class={`badge ${kind}`}>
      <span aria-hidden="true">{MARKS[kind]} </span>
      {text}
    </span>
  )
}
