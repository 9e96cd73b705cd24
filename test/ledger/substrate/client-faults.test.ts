import { afterEach, describe, expect, it } from 'vitest'
import {
  cancelDispute,
  challengeDispute,
  finalizeDispute,
  proposeDispute,
  submitAccounting,
  transfer,
  voteOnDispute,
} from '../../../src/ledger/calls.ts'
import type { DevNode, DevNodeOptions } from '../../../src/ledger/devnet/dev-node.ts'
import type { Ledger, LedgerBlock, LedgerStatus } from '../../../src/ledger/ledger.ts'
import { type ConnectLedgerOptions, connectLedger } from '../../../src/ledger/substrate.ts'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import { signerOf } from '../../../src/ledger/substrate/key-derivation.ts'
import { eventually, signerOfNumber } from '../../contract/ledger-contract.ts'
import { devNode, otherGenesis, Wire } from './wired-node.ts'

const UNIT = 10n ** 18n
const alith = signerOf(devAccount('alith'))
const to = signerOfNumber(77).address
const quick = { timeoutMs: 2000, healthMs: 50, retryMs: { first: 5, most: 20 } }

let close: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of close) await end()
  close = []
})

async function connected(
  nodeOptions: Partial<DevNodeOptions> = {},
  options: ConnectLedgerOptions = {},
): Promise<{ node: DevNode; wire: Wire; ledger: Ledger }> {
  const node = devNode(nodeOptions)
  const wire = new Wire(node)
  const ledger = await connectLedger('ws://wired', { ...quick, openSocket: wire.openSocket, ...options })
  close.push(async () => {
    await ledger.close()
    node.close()
  })
  return { node, wire, ledger }
}

function refuse(code: number, message: string, data?: string): Record<string, unknown> {
  return { error: { code, message, ...(data !== undefined && { data }) } }
}

describe('connectLedger and a node that goes away', () => {
  it('says so, comes back by itself, and reads asked meanwhile are answered', async () => {
    const { wire, ledger } = await connected()
    const states: LedgerStatus['state'][] = []
    ledger.watchStatus(({ state }) => states.push(state))
    wire.down = true
    wire.cut()
    await eventually('unreachable', () => ledger.status.state === 'unreachable')
    const balance = ledger.balance(alith.address)
    wire.down = false
    expect(await balance).toBe(10n ** 24n)
    expect(states).toEqual(['unreachable', 'reachable'])
  })

  it('reads fail with unreachable when it stays away', async () => {
    const { wire, ledger } = await connected({}, { timeoutMs: 100 })
    wire.down = true
    wire.cut()
    await expect(ledger.head()).rejects.toMatchObject({ code: 'unreachable' })
  })

  it('a node that is silent is left', async () => {
    const { wire, ledger } = await connected({}, { timeoutMs: 60 })
    wire.mute.add('system_health')
    await eventually('unreachable', () => ledger.status.state === 'unreachable')
    wire.mute.clear()
    await eventually('reachable', () => ledger.status.state === 'reachable')
  })

  it('another chain at the same URL is wrong-chain until the right one is back', async () => {
    const { node, wire, ledger } = await connected()
    const other = devNode(otherGenesis())
    wire.node = other
    wire.cut()
    await eventually('wrong-chain', () => ledger.status.state === 'wrong-chain')
    expect(ledger.status).toMatchObject({ reason: expect.stringMatching(/genesis 0x/) as string })
    wire.node = node
    await eventually('reachable', () => ledger.status.state === 'reachable')
    other.close()
  })

  it('a first connection to another chain, to nobody, or to no URL is refused', async () => {
    const wire = new Wire(devNode())
    const options = { ...quick, openSocket: wire.openSocket }
    await expect(
      connectLedger('ws://wired', { ...options, genesisHash: `0x${'11'.repeat(32)}` }),
    ).rejects.toMatchObject({
      code: 'ledger',
      message: expect.stringMatching(/genesis 0x.*not 0x11/) as string,
    })
    wire.down = true
    await expect(connectLedger('ws://wired', options)).rejects.toMatchObject({ code: 'unreachable' })
    for (const url of ['http://x', 'wired:9944', 'ws://', ''])
      await expect(connectLedger(url, options), url).rejects.toMatchObject({ code: 'bad_config' })
    wire.node.close()
  })
})

describe('watch', () => {
  it('tells the blocks of an interruption once it is over, in order', async () => {
    const { node, wire, ledger } = await connected()
    const seen: LedgerBlock[] = []
    ledger.watch((block) => seen.push(block))
    node.build(2)
    await eventually('two blocks', () => seen.length === 2)
    wire.down = true
    wire.cut()
    node.build(40)
    wire.down = false
    await eventually('all blocks', () => seen.length === 42)
    expect(seen.map(({ number }) => number)).toEqual(Array.from({ length: 42 }, (_, i) => i + 1))
  })

  it('a reorg shows in parentHash; the new branch is told from its first block', async () => {
    const { node, ledger } = await connected({ finalityLag: 10 })
    const seen: LedgerBlock[] = []
    ledger.watch((block) => seen.push(block))
    node.build(3)
    // What the fork leaves out makes its blocks others.
    await ledger.submit(transfer(to, UNIT), alith)
    node.build(1)
    await eventually('five blocks', () => seen.length === 5)
    node.reorg(2, 'drop')
    await eventually('the branch', () => seen.length === 8)
    expect(seen.slice(5).map(({ number }) => number)).toEqual([4, 5, 6])
    expect(seen[5]?.parentHash).toBe(seen[2]?.hash)
    expect(seen[6]?.parentHash).toBe(seen[5]?.hash)
    expect((await ledger.head()).hash).toBe(seen.at(-1)?.hash)
  })

  it('a listener that throws stops neither others nor the blocks', async () => {
    const { node, ledger } = await connected()
    const seen: number[] = []
    ledger.watch(() => {
      throw new Error('mine')
    })
    const stop = ledger.watch(({ number }) => seen.push(number))
    node.build(3)
    await eventually('three blocks', () => seen.length === 3)
    stop()
    node.build(2)
    await ledger.submit(transfer(to, UNIT), alith)
    expect(seen).toEqual([1, 2, 3])
  })
})

describe('submit', () => {
  it('an answer that never comes: the call is found in its block and not sent as another', async () => {
    const { wire, ledger } = await connected({}, { timeoutMs: 150 })
    wire.mute.add('author_submitExtrinsic')
    const done = await ledger.submit(transfer(to, UNIT), alith)
    expect(done.events.at(-1)?.name).toBe('ExtrinsicSuccess')
    expect(await ledger.balance(to)).toBe(UNIT)
  })

  it('cut while sending: found in a block of the gap when it was included', async () => {
    const { wire, ledger } = await connected()
    let sent = 0
    wire.intercept = ({ method }) => {
      if (method === 'author_submitExtrinsic' && sent++ === 0) setTimeout(() => wire.cut(), 0)
      return undefined
    }
    await ledger.submit(transfer(to, UNIT), alith)
    await ledger.submit(transfer(to, UNIT), alith)
    expect(await ledger.balance(to)).toBe(2n * UNIT)
  })

  it('cut before the node had it: the same bytes are sent again, once', async () => {
    const { wire, ledger } = await connected()
    const bytes: unknown[] = []
    wire.intercept = ({ method, params }) => {
      if (method !== 'author_submitExtrinsic') return undefined
      bytes.push((params as unknown[])[0])
      if (bytes.length > 1) return undefined
      setTimeout(() => wire.cut(), 0)
      return { method: 'lost' }
    }
    await ledger.submit(transfer(to, UNIT), alith)
    expect(await ledger.balance(to)).toBe(UNIT)
    expect(new Set(bytes).size).toBe(1)
    expect(bytes.length).toBe(2)
  })

  it('a node that lost its pool gets the call again', async () => {
    const { node, wire, ledger } = await connected({ mode: 'manual' })
    const sent = ledger.submit(transfer(to, UNIT), alith)
    await eventually('in the pool', () => node.pool.readyCount === 1)
    node.pool.clear()
    node.build(1)
    const more = setInterval(() => node.build(1), 10)
    await sent.finally(() => clearInterval(more))
    expect(await ledger.balance(to)).toBe(UNIT)
    expect(wire.requests.filter(({ method }) => method === 'author_submitExtrinsic').length).toBeGreaterThan(
      1,
    )
  })

  it('two clients of one account: every call of both is made once', async () => {
    const { node, ledger } = await connected()
    const wire = new Wire(node)
    const other = await connectLedger('ws://wired', { ...quick, openSocket: wire.openSocket })
    close.push(() => other.close())
    const calls = Array.from({ length: 6 }, () => [ledger, other]).flat()
    await Promise.all(calls.map((one) => one.submit(transfer(to, UNIT), alith)))
    expect(await ledger.balance(to)).toBe(12n * UNIT)
  })

  it('a refused call leaves its number to the next one, and later ones are not stuck', async () => {
    const { wire, ledger } = await connected({ mode: 'manual' })
    let count = 0
    wire.intercept = ({ method }) =>
      method === 'author_submitExtrinsic' && ++count === 2
        ? refuse(1010, 'Invalid Transaction', 'Inability to pay some fees (e.g. account balance too low)')
        : undefined
    const sends = [1n, 2n, 4n].map((amount) => ledger.submit(transfer(to, amount * UNIT), alith))
    const settled = Promise.allSettled(sends)
    await eventually('two wait', () => wire.node.pool.readyCount === 2)
    wire.node.build(1)
    const results = await settled
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(results[1]).toMatchObject({
      reason: { code: 'ledger', message: expect.stringMatching(/too little to pay the fee/) as string },
    })
    expect(await ledger.balance(to)).toBe(5n * UNIT)
  })

  it('included, then reorganised away and dropped by the node: sent again, final once', async () => {
    const { node, ledger } = await connected({ mode: 'manual', finalityLag: 4 })
    const sent = ledger.submit(transfer(to, UNIT), alith, { until: 'finalized' })
    await eventually('in the pool', () => node.pool.readyCount === 1)
    node.build(1)
    await eventually('included', async () => (await ledger.balance(to)) === UNIT)
    node.reorg(1, 'drop')
    expect(await ledger.balance(to)).toBe(0n)
    const more = setInterval(() => node.build(1), 15)
    const done = await sent.finally(() => clearInterval(more))
    expect(await ledger.balance(to)).toBe(UNIT)
    expect(done.blockNumber).toBeGreaterThan(2)
  })

  it('a call that is in no block of its era ends with timeout, and never later', async () => {
    const { node, wire, ledger } = await connected({ mode: 'manual' })
    wire.intercept = ({ method }) =>
      method === 'author_submitExtrinsic' ? { result: `0x${'00'.repeat(32)}` } : undefined
    const sent = ledger.submit(transfer(to, UNIT), alith)
    await eventually('sent', () => wire.requests.some(({ method }) => method === 'author_submitExtrinsic'))
    node.build(70)
    await expect(sent).rejects.toMatchObject({ code: 'timeout' })
  })

  it('close rejects what waits and says that it may still be included', async () => {
    const { node, ledger } = await connected({ mode: 'manual' })
    const sent = ledger.submit(transfer(to, UNIT), alith)
    await eventually('in the pool', () => node.pool.readyCount === 1)
    const rejected = expect(sent).rejects.toMatchObject({
      code: 'cancelled',
      message: expect.stringMatching(/may still be included/) as string,
    })
    await ledger.close()
    await rejected
  })
})

describe('errors of calls', () => {
  it('tell what was needed and had', async () => {
    const { ledger } = await connected()
    const wanted = transfer(to, 2_000_000n * UNIT)
    await expect(ledger.submit(wanted, alith)).rejects.toMatchObject({
      code: 'ledger',
      message: expect.stringMatching(
        /2000000 TENSOR and the fee are needed, 0xf24f.* has 999999\.9/,
      ) as string,
    })
  })
})

describe('calls of the Disputes pallet', () => {
  it('have the types the chain wants: each is refused for its content, by name', async () => {
    const { ledger } = await connected()
    expect(ledger.info.disputes).toBe(true)
    const bytes = new Uint8Array(32)
    const calls = [
      proposeDispute(9, 1, 2, bytes, bytes),
      challengeDispute(9, 1, bytes),
      voteOnDispute(9, 1, 1, true),
      cancelDispute(9, 1),
      finalizeDispute(9, 1),
      submitAccounting(9, 1, 0, bytes),
    ]
    for (const call of calls) {
      await expect(ledger.submit(call, alith), call.call).rejects.toThrow(/^(Disputes|Network)\.\w+: /)
    }
  })
})

describe('answers that are none', () => {
  const GARBAGE: readonly unknown[] = [
    null,
    7,
    'x',
    '0x',
    '0x00',
    '0x0',
    {},
    [],
    `0x${'ff'.repeat(40)}`,
    { number: -1 },
    { number: '0x1', digest: { logs: ['zz'] } },
  ]

  it.each([
    'chain_getHeader',
    'chain_getBlockHash',
    'state_getStorage',
    'system_accountNextIndex',
    'state_call',
    'chain_getBlock',
  ])('garbage for %s rejects or reads as nothing, and does not hang or throw elsewhere', async (method) => {
    const { wire, ledger } = await connected({}, { timeoutMs: 300 })
    for (const result of GARBAGE) {
      wire.intercept = (request) => (request['method'] === method ? { result } : undefined)
      const signal = AbortSignal.timeout(30)
      const reads = [
        ledger.head(),
        ledger.balance(to),
        ledger.subnets(),
        ledger.fee(transfer(to, 1n), alith),
        ledger.submit(transfer(to, 1n), alith, { signal }),
      ]
      for (const outcome of await Promise.allSettled(reads)) {
        if (outcome.status === 'rejected')
          expect(outcome.reason, `${method} ${JSON.stringify(result)}`).toMatchObject({
            name: 'ChoraleError',
          })
      }
    }
    wire.intercept = () => undefined
    expect(await ledger.balance(alith.address)).toBeGreaterThan(0n)
  })
})
