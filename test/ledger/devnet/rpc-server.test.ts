import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { toHex } from '../../../src/ledger/hex.ts'
import { createRpcServer, type RpcLimits } from '../../../src/ledger/devnet/rpc-server.ts'
import { TINY_COUNT, tinyExtrinsic, tinyNode } from './tiny-runtime.ts'

interface Message {
  readonly id?: unknown
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly message: string; readonly data?: string }
  readonly method?: string
  readonly params?: { readonly subscription: string; readonly result: unknown }
}

const node = tinyNode({ finalityDelayMs: 0 })
afterAll(() => node.close())
const server = createRpcServer(node)

/** A connection whose messages are kept. */
function connect(limits: Partial<RpcLimits> = {}) {
  const messages: Message[] = []
  const connection = createRpcServer(node, { limits }).connect((text) =>
    messages.push(JSON.parse(text) as Message),
  )
  return {
    messages,
    close: () => connection.close(),
    send: (text: string) => connection.receive(text),
    call(method: string, ...params: readonly unknown[]): Message {
      connection.receive(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }))
      return messages.findLast(({ id }) => id === 1)!
    },
  }
}

describe('createRpcServer', () => {
  it('answers a batch in order, without its notifications', () => {
    const answer = server.answer(
      JSON.stringify([
        { jsonrpc: '2.0', id: 'a', method: 'system_chain' },
        { jsonrpc: '2.0', method: 'system_chain' },
        { jsonrpc: '2.0', id: 2, method: 'nothing' },
        7,
      ]),
    )
    expect(JSON.parse(answer!)).toEqual([
      { jsonrpc: '2.0', id: 'a', result: 'Tiny' },
      { jsonrpc: '2.0', id: 2, error: { code: -32601, message: 'Method not found' } },
      { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'Invalid request' } },
    ])
    expect(server.answer('{"jsonrpc":"2.0","method":"system_chain"}')).toBeUndefined()
  })

  it('refuses what is no JSON-RPC, each kind by its code', () => {
    const code = (text: string) => (JSON.parse(server.answer(text)!) as Message).error?.code
    expect(code('{')).toBe(-32700)
    expect(code('[]')).toBe(-32600)
    expect(code('{"id":1,"method":"system_chain"}')).toBe(-32600)
    expect(code('{"jsonrpc":"2.0","id":1,"method":"system_chain","params":{"a":1}}')).toBe(-32602)
    expect(code('{"jsonrpc":"2.0","id":1,"method":"toString"}')).toBe(-32601)
    expect(code('{"jsonrpc":"2.0","id":1,"method":"__proto__"}')).toBe(-32601)
  })

  it('limits messages, batches and subscriptions', () => {
    const client = connect({ message: 1000, batch: 2, subscriptions: 3 })
    client.send(' '.repeat(1001))
    expect(client.messages.pop()?.error?.code).toBe(-32007)
    client.send('[1,2,3]')
    expect(client.messages.pop()?.error?.code).toBe(-32010)
    const ids = [1, 2, 3].map(() => client.call('chain_subscribeNewHeads').result)
    expect(new Set(ids).size).toBe(3)
    expect(client.call('chain_subscribeNewHeads').error?.code).toBe(-32006)
    expect(client.call('chain_unsubscribeNewHeads', ids[0]).result).toBe(true)
    expect(client.call('chain_unsubscribeNewHeads', ids[0]).result).toBe(false)
    expect(client.call('chain_subscribeNewHeads').result).toEqual(expect.any(String))
    client.close()
  })

  it('sends the id of a subscription before what it pushes, and nothing after its end', () => {
    const client = connect()
    const id = client.call('chain_subscribeNewHeads').result
    expect(client.messages.map(({ id: of, params }) => of ?? params?.subscription)).toEqual([1, id])
    node.build()
    expect(client.messages).toHaveLength(3)
    client.close()
    node.build()
    expect(client.messages).toHaveLength(3)
  })

  it('has no subscriptions without a way to push', () => {
    const answer = server.answer('{"jsonrpc":"2.0","id":1,"method":"chain_subscribeNewHeads"}')
    expect((JSON.parse(answer!) as Message).error?.message).toContain('WebSocket')
  })

  it('pushes only the watched values that change', () => {
    const client = connect()
    const [watched, other] = [toHex(TINY_COUNT), '0x1234']
    client.call('state_subscribeStorage', [watched, other])
    node.build()
    node.submit(tinyExtrinsic(9, 0))
    node.build()
    const pushed = client.messages
      .filter(({ method }) => method === 'state_storage')
      .map(({ params }) => (params!.result as { changes: [string, string][] }).changes)
    expect(pushed.map((changes) => changes.map(([key]) => key))).toEqual([[watched, other], [watched]])
    client.close()
  })

  it('pages through keys without missing or repeating one', () => {
    const pairs = Array.from({ length: 25 }, (_, at) => [`0xbeef${at.toString(16).padStart(2, '0')}`, '0x01'])
    const client = connect()
    client.call('dev_setStorage', [...pairs, ['0xbeef', '0x02'], ['0xbef0', '0x03']])
    const found: string[] = []
    for (;;) {
      const page = client.call('state_getKeysPaged', '0xbeef', 10, found.at(-1)).result as string[]
      found.push(...page)
      if (page.length < 10) break
    }
    expect(found).toEqual(['0xbeef', ...pairs.map(([key]) => key)])
    expect(client.call('state_getKeysPaged', '0xbeef', 1001).error?.code).toBe(-32602)
    client.close()
  })

  it('counts what waits in the pool into the next nonce', () => {
    const client = connect()
    const tiny = `0x${'07'.repeat(20)}`
    expect(client.call('system_accountNextIndex', tiny).result).toBe(0)
    expect(client.call('system_accountNextIndex', 'nobody').error?.code).toBe(-32602)
    client.close()
  })

  it('answers each dev method, and words what it does not like', () => {
    const client = connect()
    const { number } = node.chain.head.header
    client.call('dev_setFinalityLag', 10)
    client.call('dev_newBlock', { count: 3 })
    expect(node.chain.head.header.number).toBe(number + 3)
    expect(client.call('dev_reorg', { depth: 2 }).result).toBe(node.chain.head.hash)
    expect(node.chain.head.header.number).toBe(number + 4)
    expect(client.call('dev_timeTravel', '2031-05-01T00:00:00Z').result).toBe(Date.parse('2031-05-01'))
    client.call('dev_newBlock')
    expect(node.headTime).toBe(Date.parse('2031-05-01'))
    expect(client.call('dev_setBlockBuildMode', 'Manual').error).toBeUndefined()
    for (const [method, ...params] of [
      ['dev_newBlock', { count: 1001 }],
      ['dev_newBlock', 3],
      ['dev_reorg', { depth: 0 }],
      ['dev_reorg', { depth: 1, transactions: 'eat' }],
      ['dev_timeTravel', 'soon'],
      ['dev_setBlockBuildMode', 'sometimes'],
      ['dev_setStorage', [['0x00']]],
      ['dev_setStorage', [['00', '0x00']]],
      ['dev_setFinalityLag', -1],
    ] as const) {
      expect(client.call(method, ...params).error?.code, `${method} ${JSON.stringify(params)}`).toBe(-32602)
    }
    client.call('dev_setFinalityLag', 0)
    client.close()
  })

  it('answers any text with valid JSON-RPC and stays alive', () => {
    const client = connect()
    const check = (text: string) => {
      client.messages.length = 0
      client.send(text)
      for (const message of client.messages.flat()) {
        const isAnswer = 'result' in message || typeof message.error?.code === 'number'
        if (!isAnswer && message.params === undefined) expect.fail(`no answer: ${JSON.stringify(message)}`)
        // A bug would show as an execution error that names a JavaScript failure.
        const reason = message.error?.message ?? ''
        if (/undefined|not a function|Cannot read|BigInt/.test(reason)) expect.fail(reason)
      }
    }
    fc.assert(fc.property(fc.string({ maxLength: 60 }), check), { numRuns: 20_000 })
    fc.assert(fc.property(fc.json({ maxDepth: 3 }), check), { numRuns: 20_000 })
    client.close()
  })

  it('answers any parameters of any method with a result or an error that a client understands', () => {
    const client = connect()
    // Those that would only make the test long.
    const skipped = new Set([
      'dev_newBlock',
      'dev_reorg',
      'dev_setBlockBuildMode',
      'dev_setFinalityLag',
      'dev_timeTravel',
    ])
    const methods = server.methods.filter((name) => !skipped.has(name))
    const { hash } = node.chain.head
    const parameter = fc.oneof(
      fc.constantFrom(
        null,
        '0x',
        '0x00',
        hash,
        0,
        1,
        -1,
        1.5,
        2 ** 53,
        '',
        'Core_version',
        'AccountNonceApi_account_nonce',
        [],
        {},
        true,
      ),
      fc.array(fc.oneof(fc.constantFrom('0x00', hash, 3, null, {}), fc.string({ maxLength: 5 })), {
        maxLength: 3,
      }),
      fc.uint8Array({ maxLength: 40 }).map(toHex),
      fc.string({ maxLength: 10 }),
    )
    fc.assert(
      fc.property(fc.constantFrom(...methods), fc.array(parameter, { maxLength: 4 }), (method, params) => {
        const { error } = client.call(method, ...params)
        if (error !== undefined) {
          expect(error.message).not.toMatch(/not a function|Cannot read|Cannot mix|Invalid array length/)
        }
        if (client.messages.length > 1000) client.close()
        client.messages.length = 0
      }),
      { numRuns: 60_000 },
    )
    client.close()
  })
})
