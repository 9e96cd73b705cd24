import type { EngineSpan, KvLease } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

interface FakeLease extends KvLease {
  /** After each token, each block's running mix of all its inputs. */
  readonly states: number[][]
}

/**
 * An engine without a model: each block turns a token into numbers that depend on every token before it and on the
 * block, so a lost, doubled or reordered token shows. Cutting blocks into other spans changes nothing.
 */
export function createFakeEngineSpan(options: {
  start: number
  end: number
  kvTokens: number
  /** Awaited in every call. */
  delay?: () => Promise<void>
}): EngineSpan & { readonly calls: number[]; failCall(index: number): void } {
  const { start, end, kvTokens } = options
  const leases = new Set<FakeLease>()
  const calls: number[] = []
  let running = false
  let failing = -1
  const leased = () => [...leases].reduce((sum, lease) => sum + lease.maxTokens, 0)
  return {
    start,
    end,
    kvTokens,
    weightBytes: 0,
    kvBytes: 0,
    calls,
    failCall(index) {
      failing = index
    },
    get kvTokensFree() {
      return kvTokens - leased()
    },
    lease(maxTokens) {
      if (maxTokens > kvTokens - leased()) {
        throw new ChoraleError('capacity', `no room for ${maxTokens} of ${kvTokens} tokens`)
      }
      const states: number[][] = []
      const lease: FakeLease = {
        maxTokens,
        states,
        get position() {
          return states.length
        },
        rollback(position) {
          if (position > states.length) throw new ChoraleError('bad_request', 'rollback beyond position')
          states.length = position
        },
        release: () => void leases.delete(lease),
      }
      leases.add(lease)
      return lease
    },
    async step(entries) {
      if (running) throw new Error('two calls of the engine at once')
      running = true
      calls.push(entries.length)
      await (options.delay?.() ?? Promise.resolve())
      running = false
      if (calls.length - 1 === failing) throw new Error('device lost')
      return entries.map(({ lease, hidden }) => {
        if (!leases.has(lease as FakeLease)) throw new Error('step on a lease that was released')
        return compute(lease as FakeLease, hidden, start, end)
      })
    },
    close: async () => undefined,
  }
}

function compute(lease: FakeLease, hidden: Tensor, start: number, end: number): Tensor {
  const [tokens, columns] = hidden.shape
  const data = new Float32Array(hidden.data.length)
  for (let t = 0; t < tokens; t++) {
    let row = hidden.data.slice(t * columns, (t + 1) * columns)
    const before = lease.states.at(-1)
    const states: number[] = []
    for (let block = start; block < end; block++) {
      let mix = before?.[block - start] ?? 7
      for (const value of row) mix = (mix * 31 + Math.abs(Math.round(value * 64))) % 9973
      states.push(mix)
      row = row.map((value, j) => (Math.abs(Math.round(value * 64)) * 13 + block * 101 + j * 7 + mix) % 8191)
    }
    lease.states.push(states)
    data.set(row, t * columns)
  }
  return { shape: [tokens, columns], data }
}
