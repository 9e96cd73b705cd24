import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { policyFiles, readPolicyFile } from '../../node/cli/serve/policy-files.ts'
import { contentHash } from '../../src/attest/evidence.ts'
import { createPolicyShelf, memoryPolicies, RETRY_MS } from '../../src/attest/policy/policy-shelf.ts'
import { updateSubnetMisc } from '../../src/ledger/calls.ts'
import { body, section } from '../attest/wasm-bytes.ts'
import { type DutySwarm, dutySwarm, pollUntil } from './duty-swarm.ts'

const SPAN_SQUARED = new Uint8Array(
  readFileSync(join(import.meta.dirname, '../vectors/policy/span-squared.wasm')),
)
const LIMITS = { gas: 100_000, pages: 2 }
const policyOf = (wasm: Uint8Array, limits: object = LIMITS) => ({
  sha256: contentHash(wasm),
  ...LIMITS,
  ...limits,
})

/** A program that gives every node 7: it writes its answer over its input. */
const sevens = program(`
  2000 2000 280204 2102 2002 360200                     store(p, count = load(p + 4))
  0340                                                  loop, i = 0: entry at p + 4 + 20 i
    2000 2003 4114 6c 6a 2000 2003 4120 6c 6a 280218    the id of the node at p + 24 + 32 i,
    360204                                              which was not written over yet
    2000 2003 4114 6c 6a 4207 370008                    the score: 7 and,
    2000 2003 4114 6c 6a 4200 370010                    for the upper half, 0
    2003 4101 6a 2203 2002 48 0d00                      while ++i < count
  0b 2000                                               p`)
/** A program that never ends. */
const endless = program('0340 0c00 0b 4100')

/**
 * `allocate` gives 1024; `score(pointer, length)` has two i32 locals more, and the code given as hex digits; words that
 * follow on a line say what it does.
 */
function program(code: string): Uint8Array {
  const hex = code
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/)[0]!.replaceAll(' ', ''))
    .join('')
  const text = (name: string) => [name.length, ...new TextEncoder().encode(name)]
  const sized = (bytes: readonly number[]) => section(0, bytes).slice(1)
  const types = [0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]
  const score = [1, 2, 0x7f, ...Buffer.from(hex, 'hex'), 0x0b]
  return Uint8Array.from([
    ...Buffer.from('\0asm\u0001\0\0\0', 'latin1'),
    ...section(1, [2, ...types]),
    ...section(3, [2, 0, 1]),
    ...section(5, [1, 0, 1]),
    ...section(7, [3, ...text('memory'), 2, 0, ...text('allocate'), 0, 0, ...text('score'), 0, 1]),
    ...section(10, [2, ...sized([0, ...body.constant(1024), 0x0b]), ...sized(score)]),
  ])
}

describe('createPolicyShelf', () => {
  it('gets a program once, keeps it, and gives it to others; what has another hash is none', async () => {
    const store = memoryPolicies()
    const asked: string[] = []
    let answer: Uint8Array | undefined = Uint8Array.of(1, 2, 3)
    let time = 0
    const shelf = createPolicyShelf({
      store,
      now: () => time,
      fetch: (sha256) => {
        asked.push(sha256)
        return Promise.resolve(answer)
      },
    })
    const { sha256 } = policyOf(SPAN_SQUARED)
    expect(await shelf.load(sha256)).toBe(undefined)
    answer = SPAN_SQUARED
    // The others are not asked again at once.
    expect(await shelf.load(sha256)).toBe(undefined)
    expect(asked).toHaveLength(1)
    time = RETRY_MS
    expect(await Promise.all([shelf.load(sha256), shelf.load(sha256)])).toEqual([SPAN_SQUARED, SPAN_SQUARED])
    expect(asked).toHaveLength(2)
    expect(await shelf.get(sha256)).toEqual(SPAN_SQUARED)
    expect(await shelf.get('00'.repeat(32))).toBe(undefined)
    await store.save('00'.repeat(32), SPAN_SQUARED)
    expect(await shelf.get('00'.repeat(32))).toBe(undefined)
  })

  it('says what it makes of the program that the ledger names, when that changes and not before', async () => {
    const store = memoryPolicies()
    let time = 0
    const shelf = createPolicyShelf({ store, fetch: () => Promise.resolve(undefined), now: () => time })
    const named = policyOf(sevens)
    const after = async (policy: typeof named | undefined) => {
      shelf.follow(policy)
      await shelf.idle()
      return shelf.state
    }
    expect(await after(undefined)).toEqual({ state: 'none', sha256: undefined, reason: undefined })
    expect(await after(named)).toMatchObject({
      state: 'missing',
      reason: expect.stringContaining('--policy'),
    })
    await store.save(named.sha256, sevens)
    time += RETRY_MS
    expect(await after(named)).toMatchObject({ state: 'here', sha256: named.sha256, reason: undefined })
    expect(await after({ ...named, pages: 0 })).toMatchObject({
      state: 'refused',
      reason: expect.stringContaining('1 pages of memory (at most 0)'),
    })
    const junk = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 77)
    await store.save(contentHash(junk), junk)
    expect(await after(policyOf(junk))).toMatchObject({ state: 'refused', sha256: contentHash(junk) })
    expect(await after(undefined)).toMatchObject({ state: 'none' })
  })
})

describe('policy files', () => {
  let folder: string | undefined
  afterEach(async () => {
    if (folder !== undefined) await rm(folder, { recursive: true })
    folder = undefined
  })

  it('keep the newest programs by hash, and take no other names', async () => {
    folder = await mkdtemp(join(tmpdir(), 'chorale-policies-'))
    const files = policyFiles(join(folder, 'policies'))
    const { sha256 } = policyOf(SPAN_SQUARED)
    expect(await files.load(sha256)).toBe(undefined)
    await files.save(sha256, SPAN_SQUARED)
    expect(await files.load(sha256)).toEqual(SPAN_SQUARED)
    expect(await files.load('../policies/x')).toBe(undefined)
    for (let i = 0; i < 20; i++) await files.save(String(i).padStart(64, '0'), Uint8Array.of(i))
    expect((await readdir(join(folder, 'policies'))).length).toBe(16)
  })

  it('readPolicyFile names the hash, and refuses what is no program, too long or not there', async () => {
    folder = await mkdtemp(join(tmpdir(), 'chorale-policies-'))
    const file = join(folder, 'p.wasm')
    await writeFile(file, SPAN_SQUARED)
    expect((await readPolicyFile(file)).sha256).toBe(contentHash(SPAN_SQUARED))
    await writeFile(file, SPAN_SQUARED.subarray(0, 50))
    await expect(readPolicyFile(file)).rejects.toMatchObject({ code: 'bad_file', field: 'policy' })
    await writeFile(file, new Uint8Array(70_000))
    await expect(readPolicyFile(file)).rejects.toThrow(/at most 65536/)
    await expect(readPolicyFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'bad_file' })
  })
})

describe('a policy program on the ledger', { timeout: 120_000 }, () => {
  let swarm: DutySwarm | undefined
  afterEach(async () => {
    await swarm?.close()
  })

  it('is had by one node, fetched by all, changed live; where it is missing or fails nobody attests', async () => {
    const { ledger, subnetId, servers, nextEpoch, owner, policies } = (swarm = await dutySwarm([
      { start: 0, end: 8 },
      { start: 0, end: 4 },
      { start: 4, end: 8 },
    ]))
    const name = async (policy: object | undefined) => {
      await ledger.submit(updateSubnetMisc(subnetId, JSON.stringify(policy ? { policy } : {})), owner)
    }
    const proposed = async () => await ledger.consensus(subnetId, servers[0]!.duties.state!.epoch!)
    const states = () => servers.map(({ duties }) => duties.state!.policy.state)
    const scores = async () =>
      new Map((await proposed())?.scores.map(({ nodeId, score }) => [nodeId, score] as const))
    await nextEpoch()
    await nextEpoch()
    expect(states()).toEqual(['none', 'none', 'none'])
    expect((await proposed())?.attestors).toHaveLength(3)

    // One node has it; the others ask for it by its hash, before it counts.
    await policies[2]!.save(contentHash(SPAN_SQUARED), SPAN_SQUARED)
    await name(policyOf(SPAN_SQUARED))
    await nextEpoch()
    expect(states()).toEqual(['here', 'here', 'here'])
    for (const store of policies) expect(await store.load(contentHash(SPAN_SQUARED))).toEqual(SPAN_SQUARED)
    await nextEpoch()
    const squared = await proposed()
    expect(squared?.attestors).toHaveLength(3)
    const bySpan = await scores()
    const [whole, first, second] = servers.map(({ nodeId }) => bySpan.get(nodeId)!)
    // Spans of 8, 4 and 4 blocks, squared, in millions.
    expect(whole! >= 64_000_000n && whole! < 65_000_000n).toBe(true)
    expect([first! / 1_000_000n, second! / 1_000_000n]).toEqual([16n, 16n])

    // Another program: the next epoch is scored by it, in the same processes.
    await policies[0]!.save(contentHash(sevens), sevens)
    await name(policyOf(sevens))
    await nextEpoch()
    await nextEpoch()
    expect((await proposed())?.attestors).toHaveLength(3)
    expect([...(await scores()).values()]).toEqual([7n, 7n, 7n])

    // Nobody has this one: no proposal by any other formula, and everybody says why.
    await name({ sha256: 'ab'.repeat(32), ...LIMITS })
    await nextEpoch()
    await nextEpoch()
    expect(await proposed()).toBe(undefined)
    expect(states()).toEqual(['missing', 'missing', 'missing'])
    const elected = servers.find(({ nodeId, duties }) => duties.state!.elected === nodeId)!
    expect(elected.duties.state!.duty).toMatch(/does nothing: the subnet's policy program abab.* is not here/)
    expect(elected.metrics.render()).toMatch(/chorale_duties_done_total\{duty="unscored"\} [1-9]/)
    expect(elected.metrics.render()).toContain('chorale_duties_policy{state="missing"} 1\n')

    // This one is here, and runs out of gas: it is given up for the epoch after a few looks.
    await policies[1]!.save(contentHash(endless), endless)
    await name(policyOf(endless))
    await nextEpoch()
    await nextEpoch()
    expect(await proposed()).toBe(undefined)
    const stuck = servers.find(({ nodeId, duties }) => duties.state!.elected === nodeId)!
    expect(stuck.duties.state!.duty).toMatch(/out of gas \(100000\)/)

    // None again: the formula counts, and nothing has to be started anew.
    await name(undefined)
    await nextEpoch()
    await nextEpoch()
    expect((await proposed())?.attestors).toHaveLength(3)
    await pollUntil(() => states().every((state) => state === 'none'), 'nobody has a policy')
    const { metrics } = servers[0]!
    expect(metrics.render()).toMatch(/chorale_duties_done_total\{duty="reported"\} [1-9]/)
    expect(metrics.render()).toMatch(/chorale_duties_done_total\{duty="(?:proposed|attested)"\} [1-9]/)
  })
})
