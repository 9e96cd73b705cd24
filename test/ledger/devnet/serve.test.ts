import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WebSocket } from 'ws'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startChildVerb } from '../../../node/child-process.ts'
import { openChainFile } from '../../../node/cli/devnet/chain-file.ts'
import { type JsonRpcServer, serveJsonRpc } from '../../../node/json-rpc-server.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'
import { tinyCount, tinyExtrinsic, tinyNode } from './tiny-runtime.ts'

const CHAIN = '{"jsonrpc":"2.0","id":1,"method":"system_chain"}'

/** Opens a socket; the HTTP status where it is refused. */
function open(url: string, headers: Record<string, string> = {}): Promise<WebSocket | number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, { headers })
    socket.on('open', () => resolve(socket))
    socket.on('unexpected-response', (_request, response) => {
      resolve(response.statusCode ?? 0)
      socket.terminate()
    })
    socket.on('error', () => undefined)
  })
}

function ask(socket: WebSocket, text: string): Promise<string> {
  return new Promise((resolve) => {
    socket.once('message', (data: Buffer) => resolve(data.toString('utf8')))
    socket.send(text)
  })
}

describe('serveJsonRpc', () => {
  const node = tinyNode()
  let server: JsonRpcServer
  let post: (headers: Record<string, string>, body?: string, method?: string) => Promise<[number, string]>

  beforeAll(async () => {
    server = await serveJsonRpc(createRpcServer(node), {
      port: 0,
      maxConnections: 3,
      allowOrigins: ['https://wallet.example'],
    })
    post = (headers, body = CHAIN, method = 'POST') =>
      new Promise((resolve, reject) => {
        const request = httpRequest(server.url.replace('ws:', 'http:'), { method, headers }, (response) => {
          let text = ''
          response.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')))
          response.on('end', () => resolve([response.statusCode ?? 0, text]))
        })
        request.on('error', reject)
        request.end(method === 'GET' ? '' : body)
      })
  })

  afterAll(async () => {
    await server.close()
    node.close()
  })

  it('listens on this machine only, and answers over HTTP', async () => {
    expect(server.url).toMatch(/^ws:\/\/127\.0\.0\.1:\d+$/)
    const [status, text] = await post({ 'content-type': 'application/json' })
    expect([status, (JSON.parse(text) as { result: unknown }).result]).toEqual([200, 'Tiny'])
  })

  it('refuses pages of other sites, foreign host names and forms', async () => {
    const json = { 'content-type': 'application/json' }
    const statusOf = async (headers: Record<string, string>, method?: string) =>
      (await post({ ...json, ...headers }, CHAIN, method))[0]
    expect(await statusOf({ origin: 'https://evil.example' })).toBe(403)
    expect(await statusOf({ origin: 'http://localhost.evil.example' })).toBe(403)
    expect(await statusOf({ origin: 'null' })).toBe(403)
    expect(await statusOf({ host: 'rebound.example:9944' })).toBe(403)
    expect(await statusOf({ 'content-type': 'text/plain' })).toBe(415)
    expect(await statusOf({}, 'GET')).toBe(405)
    expect(await statusOf({ origin: 'http://localhost:5173' })).toBe(200)
    expect(await statusOf({ origin: 'https://wallet.example' })).toBe(200)
    expect(await statusOf({ host: 'localhost:1' })).toBe(200)
    expect(await open(server.url, { origin: 'https://evil.example' })).toBe(403)
    expect(await open(server.url, { host: 'rebound.example' })).toBe(403)
  })

  it('counts sockets, and ends the subscriptions of those that close', async () => {
    const sockets = (await Promise.all([1, 2, 3].map(() => open(server.url)))) as WebSocket[]
    expect(await open(server.url)).toBe(429)
    const listeners = () => node.listenerCount
    const before = listeners()
    await ask(sockets[0]!, '{"jsonrpc":"2.0","id":1,"method":"chain_subscribeNewHeads"}')
    expect(listeners()).toBe(before + 1)
    for (const socket of sockets) socket.close()
    await expect.poll(listeners).toBe(before)
    let again: WebSocket | number = 0
    await expect.poll(async () => typeof (again = await open(server.url))).toBe('object')
    ;(again as unknown as WebSocket).close()
  })

  it('cuts a socket that sends bytes, or more than a message may be', async () => {
    for (const data of [Buffer.from(CHAIN), 'x'.repeat(17 * 2 ** 20)]) {
      let socket: WebSocket | number = 0
      await expect.poll(async () => typeof (socket = await open(server.url))).toBe('object')
      const closed = new Promise<number>((resolve) => (socket as unknown as WebSocket).on('close', resolve))
      ;(socket as unknown as WebSocket).send(data)
      expect([1003, 1009]).toContain(await closed)
    }
  })

  it('says so when the port is taken', async () => {
    await expect(serveJsonRpc(createRpcServer(node), { port: server.port })).rejects.toThrow('is in use')
  })
})

describe('openChainFile', () => {
  const folder = mkdtempSync(join(tmpdir(), 'chorale-devnet-'))
  const path = join(folder, 'chain.log')
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  afterEach(() => rmSync(path, { force: true }))

  function run(blocks: number): { number: number; count: number } {
    const node = tinyNode({ log: openChainFile(folder) })
    for (let made = 0; made < blocks; made++) {
      node.submit(tinyExtrinsic(1, node.chain.head.header.number))
      node.build()
    }
    const state = { number: node.chain.head.header.number, count: tinyCount(node) }
    node.close()
    return state
  }

  it('keeps a chain across restarts', () => {
    expect(run(3)).toEqual({ number: 3, count: 3 })
    expect(run(2)).toEqual({ number: 5, count: 5 })
  })

  it('drops a torn end and goes on from the last whole record', () => {
    run(5)
    const whole = readFileSync(path)
    for (let cut = 1; cut < 300; cut += 7) {
      writeFileSync(path, whole)
      truncateSync(path, whole.length - cut)
      const { number, count } = run(1)
      expect(count).toBe(number)
      expect(number).toBeGreaterThan(3)
      expect(run(0)).toEqual({ number, count })
    }
    writeFileSync(path, whole)
    appendFileSync(path, 'garbage that looks like nothing')
    expect(run(1).number).toBe(6)
    expect(run(0).number).toBe(6)
  })

  it('lets one process in at a time', () => {
    const log = openChainFile(folder)
    writeFileSync(join(folder, 'lock'), String(process.ppid))
    expect(() => openChainFile(folder)).toThrow('uses this folder')
    log.close()
    writeFileSync(join(folder, 'lock'), '999999999')
    openChainFile(folder).close()
  })

  it('is readable by its user only', () => {
    run(1)
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })
})

describe('chorale devnet', () => {
  it('says where it is, keeps its chain, and ends when asked', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chorale-devnet-'))
    const args = ['devnet', '--port', '0', '--json', '--block-time', 'manual', '--data', folder]
    try {
      let genesis: unknown
      for (const expected of [1, 2]) {
        const child = await startChildVerb({ args })
        const { url, genesisHash, accounts } = child.ready as {
          url: string
          genesisHash: string
          accounts: readonly { name: string }[]
        }
        genesis ??= genesisHash
        expect(genesisHash).toBe(genesis)
        expect(accounts[0]?.name).toBe('Alith')
        const socket = (await open(url)) as WebSocket
        await ask(socket, '{"jsonrpc":"2.0","id":1,"method":"dev_newBlock"}')
        const header = await ask(socket, '{"jsonrpc":"2.0","id":1,"method":"chain_getHeader"}')
        expect(JSON.parse(header)).toMatchObject({ result: { number: `0x${expected}` } })
        await child.stop()
        expect(await child.exited).toBe('exit 0')
      }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
