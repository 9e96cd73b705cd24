import { ChoraleError } from '../errors.ts'
import type { NoRoute } from './route.ts'

/** `4:8 and 12:16`, for messages. */
export function blockRanges(spans: readonly { readonly start: number; readonly end: number }[]): string {
  return spans.map(({ start, end }) => `${start}:${end}`).join(' and ')
}

/**
 * The error of a client that found no route: `no_chain` naming the missing blocks, or `capacity` when servers hold
 * them all and are only full.
 */
export function noChainError(
  modelName: string,
  none: NoRoute,
  request: { readonly maxTokens: number; readonly full: boolean },
): ChoraleError {
  if (request.full) {
    return new ChoraleError(
      'capacity',
      `no servers of ${modelName} have KV room for ${request.maxTokens} tokens now; ask for fewer or try again later`,
    )
  }
  const left = Object.entries(none.skipped).filter(([, count]) => count > 0)
  const skipped =
    left.length > 0 ? ` (left out: ${left.map(([why, count]) => `${count} ${why}`).join(', ')})` : ''
  if (none.missing.length === 0) {
    return new ChoraleError(
      'no_chain',
      `every block of ${modelName} has a server, but their spans don't meet${skipped}; start one whose span begins where another ends`,
    )
  }
  const ranges = blockRanges(none.missing)
  return new ChoraleError(
    'no_chain',
    `no server holds blocks ${ranges} of ${modelName}${skipped}; start one with: chorale serve MODEL --blocks ${none.missing[0]!.start}:${none.missing[0]!.end}`,
    { field: ranges },
  )
}
