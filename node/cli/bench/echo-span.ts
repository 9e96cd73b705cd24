import type { EngineSpan } from '../../../src/engine/engine.ts'
import { ChoraleError } from '../../../src/errors.ts'

/** KV room of an echo span. */
export const ECHO_KV_TOKENS = 1 << 20

/** A span that computes nothing: its output is its input. */
export function createEchoSpan(start: number, end: number): EngineSpan {
  let leased = 0
  const positions = new WeakMap<object, { count: number }>()
  return {
    start,
    end,
    weightBytes: 0,
    kvBytes: 0,
    kvTokens: ECHO_KV_TOKENS,
    get kvTokensFree() {
      return ECHO_KV_TOKENS - leased
    },
    lease(maxTokens) {
      if (leased + maxTokens > ECHO_KV_TOKENS) throw new ChoraleError('capacity', 'no room')
      leased += maxTokens
      const state = { count: 0 }
      const lease = {
        maxTokens,
        get position() {
          return state.count
        },
        rollback: (position: number) => {
          state.count = position
        },
        release: () => {
          leased -= maxTokens
        },
      }
      positions.set(lease, state)
      return lease
    },
    async step(entries) {
      return entries.map(({ lease, hidden }) => {
        positions.get(lease)!.count += hidden.shape[0]
        return hidden
      })
    },
    close: async () => undefined,
  }
}
