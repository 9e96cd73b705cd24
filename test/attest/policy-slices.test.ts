import { describe, expect, it } from 'vitest'
import { contentHash } from '../../src/attest/evidence.ts'
import { instantiate, type PolicyRun, SLICE_GAS } from '../../src/attest/policy/interpreter.ts'
import { readPolicyModule } from '../../src/attest/policy/module.ts'
import { createPolicyShelf, memoryPolicies } from '../../src/attest/policy/policy-shelf.ts'
import { scoreByParameters } from '../../src/attest/score-by-parameters.ts'
import { errorMessage } from '../../src/errors.ts'
import { DEFAULT_SUBNET_PARAMETERS } from '../../src/ledger/subnet-parameters.ts'
import { hexToBytes, moduleOf } from './wasm-bytes.ts'

const I32 = 0x7f
/** The most that a subnet's parameters may ask for. */
const MAX_GAS = 20_000_000
/** Enough for sixty slices: every one is alike. */
const GAS = 1_000_000
/** A call may cost 256 locals more than an instruction. */
const MAX_STEP_GAS = 257

const ENDLESS = hexToBytes('0340 0c00 0b')
const endless = moduleOf([], [I32], [...ENDLESS, 0x41, 0, 0x0b])
const endlessStart = moduleOf([], [], [...ENDLESS, 0x0b], true)

/** No pause takes time: only that it is made counts. */
const pauseless = () => Promise.resolve()

describe('instantiate', () => {
  it('gives the same result, gas and memory in slices of any size as in one run', async () => {
    const random = randomFrom(4711)
    const seen = { whole: 0, trapped: 0, refused: 0 }
    for (let i = 0; i < 500; i++) {
      const bytes = moduleOf([I32, I32], [I32], randomCode(random))
      const gas = random(3) === 0 ? random(200) : 1_000
      const parameters = [random(100) - 20, random(100) - 20]
      const whole = await outcome(bytes, gas, parameters, { sliceGas: Infinity })
      if (/refused/.test(whole)) seen.refused++
      else if (/stopped/.test(whole)) seen.trapped++
      else seen.whole++
      for (const sliceGas of [1, 7, 100]) {
        const sliced = await outcome(bytes, gas, parameters, { sliceGas, pause: pauseless })
        expect([i, sliceGas, sliced]).toEqual([i, sliceGas, whole])
      }
    }
    // Of each kind there are enough to say something.
    expect(Math.min(seen.whole, seen.trapped)).toBeGreaterThan(50)
  })

  it.each([
    ['a branch', '0340 0c00 0b 4100 0b'],
    ['nested blocks', '0340 0240 0240 4101 0d01 0b 0b 0c00 0b 4100 0b'],
    ['64-bit divisions', '0340 427f 42d500 80 42d500 82 1a 0c00 0b 4100 0b'],
    ['memory', '0340 4100 4100 290300 370308 0c00 0b 4100 0b'],
    [
      'calls to the deepest',
      '0340 2000 41ff01 48 04 40 2000 4101 6a 1000 1a 0b 2000 0440 4100 0f 0b 0c00 0b 4100 0b',
    ],
  ])('pauses within a slice of gas up to the limit: %s', async (_, code) => {
    let last = 0
    let longest = 0
    let pauses = 0
    const pause = () => {
      longest = Math.max(longest, instance.gasUsed - last)
      last = instance.gasUsed
      pauses++
      return Promise.resolve()
    }
    const module = readPolicyModule(moduleOf([I32], [I32], hexToBytes(code)))
    const instance = await instantiate(module, { gas: GAS, pages: 1 }, { pause })
    await expect(instance.call('run', 0)).rejects.toThrow(/out of gas/)
    expect(instance.gasUsed).toBe(GAS)
    expect(longest).toBeLessThanOrEqual(SLICE_GAS + MAX_STEP_GAS)
    expect(GAS - last).toBeLessThanOrEqual(SLICE_GAS)
    expect(pauses).toBeGreaterThanOrEqual(Math.floor(GAS / (SLICE_GAS + MAX_STEP_GAS)))
  })

  it('gives the thread to others while it runs, and ends a call or a start on the signal', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const instance = await instantiate(readPolicyModule(endless), { gas: MAX_GAS, pages: 1 }, { signal })
    let turns = 0
    const timer = setInterval(() => {
      if (++turns === 3) controller.abort()
    }, 1)
    await expect(instance.call('run')).rejects.toMatchObject({ code: 'cancelled' })
    clearInterval(timer)
    expect(turns).toBe(3)
    expect(instance.gasUsed).toBeGreaterThan(0)
    expect(instance.gasUsed).toBeLessThan(MAX_GAS)
    await expect(
      instantiate(readPolicyModule(endlessStart), { gas: MAX_GAS, pages: 1 }, { signal }),
    ).rejects.toMatchObject({ code: 'cancelled' })
  })
})

describe('scoreByParameters', () => {
  it('ends its program on the signal, and does not score otherwise', async () => {
    const wasm = endlessStart
    const policy = { sha256: contentHash(wasm), gas: MAX_GAS, pages: 1 }
    const controller = new AbortController()
    const load = () => Promise.resolve(wasm)
    const score = scoreByParameters({ ...DEFAULT_SUBNET_PARAMETERS, policy }, load, controller.signal)
    const scores = score({ epoch: 1, blockCount: 1, nodes: [] })
    setTimeout(() => controller.abort(), 0)
    await expect(scores).rejects.toMatchObject({ code: 'cancelled', field: undefined })
  })
})

describe('createPolicyShelf', () => {
  it('ends the start of a program that the ledger no longer names, and of any when the node stops', async () => {
    const store = memoryPolicies()
    const wasm = endlessStart
    const quick = moduleOf([], [], [0x0b], true)
    for (const each of [wasm, quick]) await store.save(contentHash(each), each)
    const controller = new AbortController()
    const shelf = createPolicyShelf({
      store,
      fetch: () => Promise.resolve(undefined),
      signal: controller.signal,
    })
    // Far more gas than a ledger allows: it would run for minutes.
    const slow = { sha256: contentHash(wasm), gas: MAX_GAS * 1_000, pages: 1 }
    shelf.follow(slow)
    shelf.follow({ sha256: contentHash(quick), gas: 10, pages: 1 })
    await shelf.idle()
    expect(shelf.state).toMatchObject({ state: 'here', sha256: contentHash(quick) })
    shelf.follow(slow)
    setTimeout(() => controller.abort(), 0)
    await shelf.idle()
    expect(shelf.state).toMatchObject({ state: 'looking', sha256: slow.sha256 })
  })
})

/** What a run comes to: result or error, gas, memory. */
async function outcome(
  bytes: Uint8Array,
  gas: number,
  parameters: readonly number[],
  how: PolicyRun,
): Promise<string> {
  let used: number | undefined
  let memory: readonly number[] = []
  let result: number | string
  try {
    const instance = await instantiate(readPolicyModule(bytes), { gas, pages: 2 }, how)
    result = await instance.call('run', ...parameters).catch(errorMessage)
    used = instance.gasUsed
    memory = [...instance.read(0, 256)]
  } catch (error) {
    result = errorMessage(error)
  }
  return JSON.stringify({ result, used, memory })
}

function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
}

/** Blocks, branches, recursion, memory and arithmetic over two locals; most of it is valid, much of it never ends. */
function randomCode(random: (below: number) => number): number[] {
  const code: number[] = []
  let depth = 0
  const open = (...start: number[]) => {
    code.push(...start, 0x40)
    depth++
  }
  const local = () => random(2)
  for (let i = 12 + random(30); i > 0; i--) {
    const [x, y] = [local(), local()]
    const kind = random(15)
    if (kind === 0) open(0x02)
    else if (kind === 1) open(0x03)
    else if (kind === 2) open(0x20, x, 0x04)
    else if (kind === 3 && depth > 0) {
      code.push(0x0b)
      depth--
    } else if (kind === 4 && depth > 0) code.push(0x20, x, 0x0d, random(depth))
    else if (kind === 5) code.push(0x20, 0, 0x20, 1, 0x6a + random(15), 0x21, x)
    else if (kind === 6) code.push(0x41, random(64), 0x20, x, 0x36, 0, random(8))
    else if (kind === 7) code.push(0x20, x, 0x28, 0, random(64), 0x22, y, 0x1a)
    else if (kind === 8) code.push(0x20, 0, 0x20, 1, 0x46 + random(10), 0x21, x)
    else if (kind === 9) {
      code.push(0x20, x, 0xac + random(2), 0x42, random(64), 0x7c + random(15), 0xa7, 0x21, y)
    } else if (kind === 10) code.push(0x41, random(2), 0x40, 0, 0x1a)
    else if (kind === 11) code.push(0x20, 0, 0x20, 1, 0x10, 0, 0x21, 1)
    else if (kind === 12 && depth > 0) code.push(0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, random(depth))
    else if (kind === 13 && depth > 1) code.push(0x20, x, 0x0e, 2, 0, 1, random(depth))
    else code.push(0x20, 1, 0x04, I32, 0x20, 0, 0x05, 0x41, random(60), 0x0b, 0x21, x)
  }
  return [...code, ...Array.from({ length: depth }, () => 0x0b), 0x20, local(), 0x0b]
}
