import type { EngineSpan, KvLease } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import { eachKvPart, type KvRows } from '../../src/kv/kv-rows.ts'
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
  /** Whether its cache can be read and written. */
  kvRows?: boolean
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
    ...(options.kvRows === true && { kvRows: kvRowsOf(start) }),
    close: async () => undefined,
  }
}

/** One value a token and block: its running mix. */
function kvRowsOf(first: number): KvRows {
  const written = new WeakMap<KvLease, number[][]>()
  return {
    precision: 'f32',
    width: 1,
    read(lease, { start, end, from, to }) {
      const rows = new Float32Array(2 * (end - start) * (to - from))
      eachKvPart({ start, end, from, to }, 1, (block, part, at) => {
        if (part === 1) return
        for (let token = from; token < to; token++) {
          rows[at + token - from] = (lease as FakeLease).states[token]![block - first]!
        }
      })
      return rows
    },
    write(lease, { start, end, from, to }, rows) {
      const states = written.get(lease) ?? []
      written.set(lease, states)
      eachKvPart({ start, end, from, to }, 1, (block, part, at) => {
        if (part === 1) return
        for (let token = from; token < to; token++) {
          const state = (states[token] ??= [])
          state[block - first] = rows[at + token - from]!
        }
      })
    },
    advance(lease, position) {
      const { states } = lease as FakeLease
      while (states.length < position) states.push([...written.get(lease)![states.length]!])
    },
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
