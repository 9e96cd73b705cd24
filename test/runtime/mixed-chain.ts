/**
 * One chain of a Deno server and a Node server, asked by whatever runtime runs this: the answer must equal the one
 * that the reference engine gives in this process.
 * Prints one JSON line: { runtime, servers: [engines], throughBoth, tokens, equal } or { runtime, skipped }.
 * MIXED_CHAIN_ENGINE names the Deno server's engine (default wasm; wgsl takes a minute on a software adapter).
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type ChildVerb, startChildVerb } from '../../node/child-process.ts'
import { joinSwarm } from '../../node/cli/chat/join-swarm.ts'
import { BUNDLED_MODEL } from '../../node/model-ports.ts'
import { LOOPBACK } from '../../node/offline-swarm.ts'
import { openModelArgument } from '../../node/open-model-argument.ts'
import { createNodePlatform } from '../../node/platform.ts'
import { createEngine } from '../../src/engine/select.ts'
import { silentLogger } from '../../src/log.ts'
import { type Backend, createClient } from '../../src/session/client.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'

const TOKENS = 24
const READY_MS = 20_000
const bin = join(import.meta.dirname, '../../node_modules/.bin')
const isDeno = 'Deno' in globalThis
const deno = isDeno ? process.execPath : join(bin, 'deno')
const node = isDeno ? join(bin, 'node') : process.execPath
const runtime = isDeno ? 'deno' : 'node'

if (existsSync(deno) && existsSync(node)) await askMixedChain()
else console.log(JSON.stringify({ runtime, skipped: `${existsSync(deno) ? 'node' : 'deno'} is missing` }))
// In Deno libp2p leaves something open.
if (isDeno) process.exit()

async function askMixedChain(): Promise<void> {
  const closers: (() => Promise<unknown>)[] = []
  try {
    const model = await openModelArgument(BUNDLED_MODEL)
    closers.push(() => model.close())
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new Error('the bundled model has no tokenizer')
    const tokenizer = createTokenizer(files, model.spec)
    const { engine } = await createEngine(createNodePlatform(silentLogger), { name: 'reference' })
    closers.push(() => engine.close())

    const start = async (
      where: readonly [string, ...string[]],
      args: readonly string[],
    ): Promise<ChildVerb> => {
      const child = await startChildVerb({ runtime: where, args: [...args, '--json'] })
      closers.push(() => child.stop())
      return child
    }
    const inDeno = [deno, 'run', '-A', '--no-lock'] as const
    const first = await start([node], ['bootstrap', '--listen', ...LOOPBACK])
    const bootstrap = (first.ready['addrs'] as string[]).filter((address) => !address.includes('/ws'))
    const half = model.spec.blockCount / 2
    const serve = (span: string, engineName: string) => [
      'serve',
      BUNDLED_MODEL,
      '--blocks',
      span,
      '--engine',
      engineName,
      '--threads',
      '1',
      '--listen',
      LOOPBACK[0]!,
      '--bootstrap',
      bootstrap[0]!,
      '--drain',
      '1',
    ]
    const servers = await Promise.all([
      start(inDeno, serve(`0:${half}`, process.env['MIXED_CHAIN_ENGINE'] ?? 'wasm')),
      start([node], serve(`${half}:${model.spec.blockCount}`, 'wasm')),
    ])

    const promptIds = tokenizer.encodeChat([{ role: 'user', content: 'Tell me a story about a fox.' }])
    const ask = async (backend: Backend) => {
      const client = await createClient({ model, tokenizer, engine, backend })
      try {
        const deadline = Date.now() + READY_MS
        while (!(await client.readiness()).ready) {
          if (Date.now() > deadline) throw new Error('the servers did not find each other')
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
        const ids: number[] = []
        let route: string[] = []
        const request = { promptIds, maxTokens: TOKENS, sampling: { temperature: 0 } }
        for await (const event of client.generate(request)) {
          if (event.type === 'token') ids.push(event.token.id)
          else if (event.type === 'done') route = event.route.map(({ peer }) => peer)
        }
        return { ids, route }
      } finally {
        await client.close()
      }
    }
    const joined = await joinSwarm({ model, bootstrap, log: silentLogger })
    closers.push(() => joined.close())
    const chained = await ask(joined.backend)
    const local = await ask({ kind: 'local' })
    const peers = servers.map(({ ready }) => ready['peerId'])
    const equal = chained.ids.join() === local.ids.join()
    if (!equal) process.exitCode = 1
    console.log(
      JSON.stringify({
        runtime,
        servers: servers.map(({ ready }) => ready['engine']),
        throughBoth: chained.route.join() === peers.join(),
        tokens: chained.ids.length,
        equal,
      }),
    )
  } finally {
    for (const close of closers.reverse()) await close()
  }
}
