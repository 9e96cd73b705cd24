import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import asc from 'assemblyscript/asc'
import { describe, expect, it } from 'vitest'
import { contentHash } from '../../src/attest/evidence.ts'
import { instantiate } from '../../src/attest/policy/interpreter.ts'
import { readPolicyModule } from '../../src/attest/policy/module.ts'
import { encodeFacts, openPolicy, runPolicy } from '../../src/attest/policy/policy.ts'
import { scoreByParameters } from '../../src/attest/score-by-parameters.ts'
import type { EpochFacts } from '../../src/attest/scores.ts'
import { isChoraleError } from '../../src/errors.ts'
import { DEFAULT_SUBNET_PARAMETERS } from '../../src/ledger/subnet-parameters.ts'
import { body, hexToBytes, moduleOf, OPCODES, section } from './wasm-bytes.ts'

const FOLDER = join(import.meta.dirname, '../vectors/policy')
const WASM = new Uint8Array(readFileSync(join(FOLDER, 'span-squared.wasm')))
const SHA256 = contentHash(WASM)
const LIMITS = { gas: 100_000, pages: 2 }

const FACTS: EpochFacts = {
  epoch: 9,
  blockCount: 8,
  nodes: [
    { nodeId: 1, start: 0, end: 8, uptime: 1000, work: 40n, auditsPassed: 2, auditsFailed: 0 },
    { nodeId: 2, start: 4, end: 8, uptime: 899, work: 0n, auditsPassed: 0, auditsFailed: 0 },
    { nodeId: 7, start: 0, end: 8, uptime: 1000, work: 9n, auditsPassed: 5, auditsFailed: 1 },
    { nodeId: 9, start: 0, end: 0, uptime: 0, work: 1n << 70n, auditsPassed: 0, auditsFailed: 0 },
  ],
}
const SCORES = [
  { nodeId: 1, score: 64_000_040n },
  { nodeId: 2, score: 8_000_000n },
  { nodeId: 9, score: (1n << 64n) - 1n },
]

describe('runPolicy', () => {
  it('scores as the program says, the same every time', async () => {
    const policy = openPolicy(WASM, { sha256: SHA256, ...LIMITS })
    expect(await runPolicy(policy, FACTS)).toEqual(SCORES)
    expect(await runPolicy(policy, FACTS)).toEqual(SCORES)
  })

  it('agrees with the host running the same program', async () => {
    const { instance } = await WebAssembly.instantiate(WASM)
    const { allocate, memory, score } = instance.exports as unknown as {
      allocate(length: number): number
      score(pointer: number, length: number): number
      memory: WebAssembly.Memory
    }
    const input = encodeFacts(FACTS)
    const pointer = allocate(input.length)
    new Uint8Array(memory.buffer).set(input, pointer)
    const result = score(pointer, input.length)
    const view = new DataView(memory.buffer, result)
    const scores = Array.from({ length: view.getUint32(0, true) }, (_, i) => ({
      nodeId: view.getUint32(4 + i * 20, true),
      score: view.getBigUint64(8 + i * 20, true),
    }))
    expect(scores.filter(({ score: value }) => value > 0n)).toEqual(SCORES)
  })

  it('stops at the gas limit, at the same instruction on every run', async () => {
    const used = async (gas: number) => {
      const instance = await instantiate(readPolicyModule(WASM), { gas, pages: 2 })
      await instance.call('allocate', 100)
      return instance.gasUsed
    }
    const enough = await used(100_000)
    expect(await used(100_000)).toBe(enough)
    expect(await used(enough)).toBe(enough)
    await expect(used(enough - 1)).rejects.toThrow(/out of gas/)
  })

  it('replaces the formula when the parameters say so, and nothing replaces the program', async () => {
    const policy = { sha256: SHA256, ...LIMITS }
    const parameters = { ...DEFAULT_SUBNET_PARAMETERS, policy }
    expect(await scoreByParameters(parameters, async () => WASM)(FACTS)).toEqual(SCORES)
    await expect(scoreByParameters(parameters)(FACTS)).rejects.toMatchObject({ code: 'not_found' })
    const other = WASM.slice()
    other[other.length - 1]! ^= 1
    await expect(scoreByParameters(parameters, async () => other)(FACTS)).rejects.toMatchObject({
      code: 'ledger',
      field: 'policy.sha256',
    })
  })

  it('is compiled from the source beside it', async () => {
    const source = readFileSync(join(FOLDER, 'span-squared.assembly'), 'utf8')
    const flags = source.split('\n')[1]!.split(' ').slice(3)
    const files = new Map<string, unknown>()
    const { error } = await asc.main(['policy.ts', ...flags, '--outFile', 'policy.wasm'], {
      readFile: (name) => (name === 'policy.ts' ? source : null),
      writeFile: (name, contents) => void files.set(name, contents),
      listFiles: () => [],
    })
    expect(error).toBe(null)
    expect(files.get('policy.wasm')).toEqual(WASM)
  })
})

describe('readPolicyModule', () => {
  it.each([
    ['an import', section(2, [1, 1, 97, 1, 98, 0, 0]), /imports/],
    ['a table', section(4, [1, 0x70, 0, 1]), /tables/],
    ['two memories', section(5, [2, 0, 1, 0, 1]), /2 memories/],
    ['shared memory', section(5, [1, 3, 1, 1]), /shared/],
    ['a 64-bit memory', section(5, [1, 4, 1]), /64-bit/],
    ['a float global', section(6, [1, 0x7d, 0, 0x43, 0, 0, 0, 0, 0x0b]), /type 0x7d/],
    ['a section that is not known', section(13, [0]), /section 13/],
    ['a cut section', [1, 200], /cut/],
  ])('refuses %s', (_, bytes, reason) => {
    const whole = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...bytes])
    expect(() => readPolicyModule(whole)).toThrow(reason)
  })

  it('refuses every instruction that is not of the integer language', () => {
    const allowed: number[] = []
    for (let op = 0; op < 256; op++) {
      const read = () => readPolicyModule(moduleOf([], [], [op, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b]))
      let message = ''
      try {
        read()
      } catch (error) {
        message = (error as Error).message
      }
      if (!/is not allowed/.test(message)) allowed.push(op)
    }
    const floats = [0x2a, 0x2b, 0x38, 0x39, 0x43, 0x44, 0x5b, 0x66, 0x8b, 0xa6, 0xa8, 0xab, 0xae, 0xbf]
    expect(floats.filter((op) => allowed.includes(op))).toEqual([])
    // Indirect calls, references, vectors, threads, bulk memory, exceptions, tail calls.
    const later = [0x06, 0x08, 0x11, 0x12, 0x1c, 0x25, 0x26, 0xd0, 0xd2, 0xfb, 0xfc, 0xfd, 0xfe]
    expect(later.filter((op) => allowed.includes(op))).toEqual([])
    expect(allowed).toHaveLength(108)
  })

  it('refuses what is badly typed, as the host does', () => {
    expect(() => readPolicyModule(moduleOf([], [0x7f], [0x42, 1, 0x0b]))).toThrow(/no valid WebAssembly/)
    expect(() => readPolicyModule(moduleOf([], [0x7f], [0x6a, 0x0b]))).toThrow(/no valid WebAssembly/)
    expect(() => readPolicyModule(moduleOf([], [], [0x10, 9, 0x0b]))).toThrow(/not there/)
  })

  it('reads or refuses whatever bytes come, and never fails otherwise', async () => {
    let state = 12345
    const random = (below: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return (state >>> 8) % below
    }
    let read = 0
    for (let i = 0; i < 20_000; i++) {
      const bytes = WASM.slice(0, random(10) === 0 ? random(WASM.length) : WASM.length)
      for (let flips = random(3); flips >= 0; flips--) bytes[8 + random(bytes.length)] = random(256)
      try {
        await runPolicy({ module: readPolicyModule(bytes), limits: { gas: 10_000, pages: 1 } }, FACTS)
        read++
      } catch (error) {
        if (!isChoraleError(error) || error.code !== 'ledger') throw error
      }
    }
    expect(read).toBeGreaterThan(0)
  })
})

describe('instantiate', () => {
  const run = async (parameters: readonly number[], code: readonly number[], limits = LIMITS) => {
    const types = parameters.map(() => 0x7f)
    const instance = await instantiate(readPolicyModule(moduleOf(types, [0x7f], code)), limits)
    return await instance.call('run', ...parameters)
  }

  it('agrees with the host on every instruction that computes, at all edges', async () => {
    const edges32 = [0, 1, -1, 2, 31, 32, 33, 255, 256, 0x7fff_ffff, -0x8000_0000, 0x1234_5678, -77]
    const edges64 = [0n, 1n, -1n, 63n, 64n, 0xffff_ffffn, 1n << 32n, (1n << 63n) - 1n, -(1n << 63n), -77n]
    let checked = 0
    for (const { op, from, to } of OPCODES) {
      const edges: readonly (number | bigint)[] = from[0] === 0x7e ? edges64 : edges32
      const rights = from.length === 2 ? edges : [undefined]
      for (const left of edges) {
        for (const right of rights) {
          // Results of 64 bits come out in two halves.
          const operands = [left, ...(right === undefined ? [] : [right])].flatMap((value) =>
            body.constant(value),
          )
          for (const half of to === 0x7e ? [0n, 32n] : [undefined]) {
            const narrow = half === undefined ? [] : [...body.constant(half), 0x88, 0xa7]
            const bytes = moduleOf([], [0x7f], [...operands, op, ...narrow, 0x0b])
            const host = await attempt(() => {
              const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes.slice()))
              return (exports['run'] as () => number)()
            })
            const own = await attempt(async () => {
              const instance = await instantiate(readPolicyModule(bytes), LIMITS)
              return await instance.call('run')
            })
            expect([op, left, right, own]).toEqual([op, left, right, host])
            checked++
          }
        }
      }
    }
    expect(checked).toBeGreaterThan(8_000)
  })

  it('branches, loops and tables end where the host ends', async () => {
    // sum of 1..n by a loop with an exit in the middle; 1000 + table choice afterwards
    const code = hexToBytes(
      '0240 0340 2000 45 0d01 2001 2000 6a 2101 2000 4101 6b 2100 0c00 0b 0b' +
        '0240 0240 0240 2001 0e 02 00 01 02 0b 410a 0f 0b 4114 0f 0b' +
        '2001 4103 46 047f 411e 05 2001 0b 0b',
    )
    for (const [n, wanted] of [
      [0, 10],
      [1, 20],
      [2, 30],
      [3, 6],
      [100, 5050],
    ] as const) {
      expect(await run([n, 0], code)).toBe(wanted)
    }
  })

  it.each([
    ['an endless loop', [0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0, 0x0b], /out of gas/],
    ['endless recursion', [0x10, 0, 0x0b], /nested deeper than 256/],
    ['a load outside of memory', [0x41, 0x7f, 0x28, 2, 0, 0x0b], /memory access/],
    ['a load at an offset outside', [0x41, 0, 0x28, 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x0b], /memory access/],
    ['unreachable', [0x00, 0x0b], /unreachable/],
    ['a division by zero', [0x41, 1, 0x41, 0, 0x6d, 0x0b], /division by zero/],
  ])('ends %s', async (_, code, reason) => {
    await expect(run([], code)).rejects.toThrow(reason)
  })

  it('grows memory up to the limit, and says -1 beyond', async () => {
    expect(await run([], [0x41, 1, 0x40, 0, 0x0b])).toBe(1)
    expect(await run([], [0x41, 2, 0x40, 0, 0x0b])).toBe(-1)
    await expect(run([], [0x41, 0, 0x0b], { gas: 10, pages: 0 })).rejects.toThrow(/1 pages/)
  })
})

async function attempt(work: () => number | Promise<number>): Promise<number | 'trap'> {
  try {
    return await work()
  } catch {
    return 'trap'
  }
}
