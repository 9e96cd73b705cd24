import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import type { Pass } from '../../src/protocol/pass.ts'
import { createClientAccount, sliceOf } from '../../src/swarm/client-account.ts'
import { keepPass } from '../../src/swarm/keep-pass.ts'
import { requestPass, tellUse } from '../../src/swarm/pass-exchange.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { servePasses, signPass } from '../../src/swarm/serve-passes.ts'
import {
  createSponsorAccounts,
  type ReportedUse,
  tokensThroughModels,
} from '../../src/swarm/sponsor-accounts.ts'
import { gatedSwarm, type GatedSwarm } from './gated.ts'
import { MODEL_ID, TCP, until } from './loopback.ts'

const swarms: GatedSwarm[] = []
afterEach(async () => {
  for (const swarm of swarms.splice(0)) await swarm.close()
})

const use = (start: number, end: number, tokens: number, modelId = 'm'): ReportedUse => ({
  modelId,
  start,
  end,
  tokens,
})

describe('tokensThroughModels', () => {
  it.each<[string, ReportedUse[], number]>([
    ['nothing', [], 0],
    ['a chain computes each token once', [use(0, 4, 10), use(4, 8, 10), use(8, 9, 10)], 10],
    ['two chains', [use(0, 4, 10), use(4, 8, 10), use(0, 8, 7)], 17],
    ['a span that failed over', [use(0, 4, 10), use(4, 8, 6), use(4, 8, 4)], 10],
    ['a block replayed elsewhere', [use(0, 4, 10), use(4, 8, 6), use(4, 8, 10)], 16],
    ['two models', [use(0, 4, 10), use(0, 4, 5, 'n')], 15],
  ])('%s', (_, uses, tokens) => {
    expect(tokensThroughModels(uses)).toBe(tokens)
  })

  it('is what the busiest block computed, and never more than the sum', () => {
    const span = fc
      .record({ start: fc.nat(12), blocks: fc.integer({ min: 1, max: 6 }), tokens: fc.nat(100) })
      .map(({ start, blocks, tokens }) => use(start, start + blocks, tokens))
    fc.assert(
      fc.property(fc.array(span, { maxLength: 12 }), (uses) => {
        const blocks = Array.from({ length: 20 }, (__, block) =>
          uses
            .filter(({ start, end }) => start <= block && block < end)
            .reduce((sum, { tokens }) => sum + tokens, 0),
        )
        expect(tokensThroughModels(uses)).toBe(Math.max(...blocks))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('createSponsorAccounts', () => {
  const pass: Pass = {
    sponsor: 's',
    audience: 'c',
    models: [],
    tokens: 100,
    sessions: 1,
    issuedAt: 0,
    expiresAt: 1_000,
    nonce: new Uint8Array(16),
  }

  it('sums servers, spans and passes, counts a report once, and forgets after a pass’s life without new tokens', () => {
    let now = 0
    const accounts = createSponsorAccounts(() => now)
    expect(accounts.report('a', '1', pass, use(0, 4, 30))).toBe(70)
    expect(accounts.report('a', '1', pass, use(0, 4, 30))).toBe(70)
    expect(accounts.report('b', '1', pass, use(4, 8, 30))).toBe(70)
    expect(accounts.report('b', '1', pass, use(0, 4, 20))).toBe(50)
    now = 500
    expect(accounts.report('a', '2', pass, use(0, 4, 50))).toBe(0)
    // A server that begins again, or lies, takes nothing back.
    expect(accounts.report('a', '1', pass, use(0, 4, 1))).toBe(0)
    expect(accounts.left('c', 100)).toEqual({ tokens: 0, moreInMs: 500 })
    expect(accounts.left('other', 100)).toEqual({ tokens: 100, moreInMs: 0 })
    now = 1_000
    expect(accounts.left('c', 100).tokens).toBe(50)
    now = 1_500
    expect(accounts.left('c', 100)).toEqual({ tokens: 100, moreInMs: 0 })
    expect(accounts.reported).toBe(130)
  })

  it('keeps a bounded number of entries a client, and of clients', () => {
    const accounts = createSponsorAccounts(() => 0)
    for (let i = 0; i < 512; i++) accounts.report(`server ${i}`, '1', pass, use(0, 4, 1))
    expect(() => accounts.report('one more', '1', pass, use(0, 4, 1))).toThrow('512 spans')
    for (let i = 0; i < 4_095; i++) accounts.report('a', '1', { ...pass, audience: `c${i}` }, use(0, 4, 1))
    expect(() => accounts.report('a', '1', { ...pass, audience: 'd' }, use(0, 4, 1))).toThrow('4096 accounts')
  })
})

describe('createClientAccount', () => {
  it('lets a slice be used unseen, says when the sponsor must hear of it, and refuses what is spent', () => {
    let now = 0
    const account = createClientAccount(() => now)
    const quota = 160_000
    const slice = sliceOf(quota)
    expect(slice).toBe(10_000)
    expect(account.isDue(quota)).toBe(false)
    account.charge(quota, 1)
    expect(account.isDue(quota)).toBe(false)
    now = 5_000
    expect(account.isDue(quota)).toBe(true)
    account.charge(quota, 6_000)
    expect(account.heldMs(quota)).toBeGreaterThan(0)
    account.charge(quota, 3_999)
    expect(() => account.charge(quota, 1)).toThrow('has not confirmed the last 10000 tokens')
    expect(account.tell()).toBe(10_000)
    expect(account.isDue(quota)).toBe(false)
    account.untold()
    expect(account.isDue(quota)).toBe(false)
    now += 2_000
    expect(account.isDue(quota)).toBe(true)
    account.told(account.tell(), 500)
    expect(account.heldMs(quota)).toBe(0)
    account.charge(quota, 500)
    try {
      account.charge(quota, 1)
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'refused', field: 'tokens' })
    }
    // Its sponsor is asked again, for it may have more by now.
    expect(account.isDue(quota)).toBe(true)
    account.told(account.tell(), 0)
    expect(() => account.charge(quota, 1)).toThrow('used up')
    expect(account.isDue(quota)).toBe(false)
    now += 10_000
    expect(account.isDue(quota)).toBe(true)
  })
})

describe('a quota of n servers that hear of each other through the sponsor only', () => {
  it('is exceeded by n slices at most, however late, lost and reordered their reports are', () => {
    const servers = 4
    const quota = 50_000
    const act = fc.record({
      server: fc.nat(servers - 1),
      what: fc.constantFrom('use', 'use', 'use', 'tell', 'count', 'answer', 'lose'),
      tokens: fc.integer({ min: 1, max: 4_096 }),
    })
    let most = 0
    fc.assert(
      fc.property(fc.array(act, { minLength: 200, maxLength: 400 }), (acts) => {
        let now = 0
        const sponsor = createSponsorAccounts(() => now)
        const all = Array.from({ length: servers }, () => ({
          account: createClientAccount(() => now),
          used: 0,
          told: undefined as { tokens: number; used: number; left: number | undefined } | undefined,
        }))
        const pass: Pass = {
          sponsor: 's',
          audience: 'c',
          models: [],
          tokens: quota,
          sessions: 1,
          issuedAt: 0,
          expiresAt: 3_600_000,
          nonce: new Uint8Array(16),
        }
        for (const { server, what, tokens } of acts) {
          now += 500
          const one = all[server]!
          const { account, told } = one
          if (what === 'use') {
            try {
              account.charge(quota, tokens)
              one.used += tokens
            } catch {
              // Refused for now.
            }
          } else if (what === 'tell' && account.isDue(quota)) {
            one.told = { tokens: account.tell(), used: one.used, left: undefined }
          } else if (what === 'count' && told) {
            told.left = sponsor.report(String(server), '1', pass, use(0, 4, told.used))
          } else if (what === 'answer' && told?.left !== undefined) {
            account.told(told.tokens, told.left)
            one.told = undefined
          } else if (what === 'lose' && told) {
            account.untold()
            one.told = undefined
          }
        }
        const sum = all.reduce((total, { used }) => total + used, 0)
        most = Math.max(most, sum)
        expect(sum).toBeLessThanOrEqual(quota + servers * sliceOf(quota))
      }),
      { numRuns: 500 },
    )
    // Or the runs would be too short to show anything.
    expect(most).toBeGreaterThan(quota)
  })
})

describe('a pass’s quota over several servers', () => {
  const QUOTA = 20_000
  const SERVERS = 5

  async function scene(lifetimeMs = 60_000) {
    const swarm = gatedSwarm()
    swarms.push(swarm)
    const sponsor = await swarm.peer({ listen: [TCP] })
    const service = await servePasses(sponsor, {
      gate: swarm.gateOf(sponsor),
      issue: { tokens: QUOTA, lifetimeMs },
    })
    const servers: Peer[] = []
    for (let i = 0; i < SERVERS; i++) {
      const server = await swarm.peer({ listen: [TCP], bootstrap: sponsor.addrs() })
      await servePasses(server, { gate: swarm.gateOf(server) })
      servers.push(server)
    }
    const tab = await swarm.peer({ node: false, gated: false, bootstrap: sponsor.addrs() })
    const keeper = await keepPass(tab)
    await keeper.first(10_000)
    keeper.close()
    for (const server of servers) await swarm.gateOf(server).show(tab.id, tab.pass!)
    /** Uses a server until it refuses. */
    const take = (server: Peer, tokens: number, start = 0): string => {
      try {
        swarm.gateOf(server).charge(tab.id, tokens, { modelId: MODEL_ID, span: { start, end: start + 4 } })
        return 'ok'
      } catch (error) {
        return errorCode(error)
      }
    }
    return { swarm, sponsor, service, servers, tab, take }
  }

  it('holds on all together, but for a slice each', async () => {
    const { service, servers, take, tab, sponsor } = await scene()
    let used = 0
    const spent = new Set<Peer>()
    await until(
      () => {
        for (const server of servers) {
          if (spent.has(server)) continue
          const result = take(server, 250)
          if (result === 'ok') used += 250
          // `capacity`: the sponsor has yet to answer.
          if (result === 'refused') spent.add(server)
        }
        return spent.size === SERVERS
      },
      'all refuse',
      20_000,
    )
    expect(used).toBeGreaterThanOrEqual(QUOTA)
    expect(used).toBeLessThanOrEqual(QUOTA + SERVERS * sliceOf(QUOTA))
    await until(() => service.reportedTokens >= QUOTA, 'the sponsor knows')
    // The sponsor gives no other pass either, for whichever models.
    await expect(requestPass(tab, sponsor.id, ['other'])).rejects.toMatchObject({
      code: 'capacity',
      message: expect.stringContaining('are used up'),
    })
  })

  it('counts a token once though three servers compute it', async () => {
    const { service, servers, take } = await scene()
    const used = [0, 0, 0]
    await until(
      () => {
        const results = used.map((_, i) => take(servers[i]!, 500, 4 * i))
        for (const [i, result] of results.entries()) if (result === 'ok') used[i]! += 500
        return results.includes('refused')
      },
      'they are used up',
      20_000,
    )
    // Summed over servers, a third of it each would be all.
    expect(Math.max(...used)).toBeGreaterThan(0.8 * QUOTA)
    expect(Math.max(...used)).toBeLessThanOrEqual(QUOTA + sliceOf(QUOTA))
    await until(() => service.reportedTokens > 2 * QUOTA, 'the sponsor knows of each server', 10_000)
  })

  it('a sponsor that is gone: its clients may use up a slice, no more', async () => {
    const { servers, take, sponsor } = await scene()
    await sponsor.close()
    const [server] = servers
    for (let left = sliceOf(QUOTA); left > 0; left -= 512) expect(take(server!, 512)).toBe('ok')
    expect(take(server!, 512)).toBe('capacity')
  })

  it('asking often gives the same pass, not a second quota', async () => {
    const { service, sponsor, tab } = await scene()
    expect(await requestPass(tab, sponsor.id, [])).toEqual(tab.pass)
    expect(await requestPass(tab, sponsor.id, [])).toEqual(tab.pass)
    expect(service.issued).toBe(1)
    expect(await requestPass(tab, sponsor.id, ['other'])).not.toEqual(tab.pass)
  })

  it('only servers report, and only this sponsor’s passes', async () => {
    const { service, servers, sponsor, tab } = await scene()
    await expect(tellUse(tab, sponsor.id, tab.pass!, use(0, 4, 5))).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('no server'),
    })
    const [server, other] = servers
    const issuedAt = Date.now()
    const theirs = {
      audience: tab.id,
      models: [],
      tokens: 9,
      sessions: 9,
      issuedAt,
      expiresAt: issuedAt + 9_000,
    }
    await expect(
      tellUse(server!, sponsor.id, await signPass(other!.identity, theirs), use(0, 4, 5)),
    ).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('not a pass of this sponsor'),
    })
    const forged = tab.pass!.slice()
    forged[forged.length - 1]! ^= 1
    await expect(tellUse(server!, sponsor.id, forged, use(0, 4, 5))).rejects.toMatchObject({
      code: 'refused',
    })
    expect(service.reportedTokens).toBe(0)
    // A lie can't say more than the pass was good for.
    expect(await tellUse(server!, sponsor.id, tab.pass!, use(0, 4, 1 << 30))).toBe(0)
    expect(service.reportedTokens).toBe(QUOTA)
  })
})
