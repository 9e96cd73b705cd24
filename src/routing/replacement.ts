import type { NoRoute, Route, RouteRequest } from './route.ts'
import { findRoute } from './route.ts'
import type { Snapshot } from './snapshot.ts'

/** Which hops of a running chain to replace, and by whom. */
export interface Replacement {
  readonly kind: 'replacement'
  /** Hops [from, to) go. */
  readonly from: number
  /** Exclusive. */
  readonly to: number
  readonly route: Route
}

/**
 * Replaces hop `failed` of a chain and as few of its neighbours as possible: whoever is replaced costs a replay.
 *
 * Servers run whole spans, so a swarm may cover a lost span only together with its neighbours' blocks. Among equally
 * many hops the cheapest route wins. Pure.
 * @returns why not even the whole chain can be routed anew.
 */
export function planReplacement(
  hops: readonly { readonly start: number; readonly end: number }[],
  failed: number,
  snapshot: Snapshot,
  request: Omit<RouteRequest, 'start' | 'end'>,
): Replacement | NoRoute {
  let reason: NoRoute | undefined
  for (let count = 1; count <= hops.length; count++) {
    let best: Replacement | undefined
    for (let from = Math.max(0, failed - count + 1); from <= Math.min(failed, hops.length - count); from++) {
      const start = hops[from]!.start
      const end = hops[from + count - 1]!.end
      const route = findRoute(snapshot, { ...request, start, end })
      if (route.kind === 'none') {
        reason = route
      } else if (!best || route.costMs < best.route.costMs) {
        best = { kind: 'replacement', from, to: from + count, route }
      }
    }
    if (best) return best
  }
  return reason!
}
