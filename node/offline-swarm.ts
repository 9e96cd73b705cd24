import type { Span } from '../src/session/span-runner.ts'
import { type ChildVerb, startChildVerb } from './child-process.ts'

export interface OfflineSwarmOptions {
  /** A MODEL argument: folder, .gguf file, hub name or the bundled model. */
  readonly model: string
  /** Spans to serve; together they should cover the model. */
  readonly spans: readonly Span[]
  /** Servers for each span (default 1). */
  readonly replicas?: number
  readonly engine?: string
  /** CPU threads of each server. */
  readonly threads?: number
  /** Further arguments for each `chorale serve`. */
  readonly serveArgs?: readonly string[]
  /** Further arguments for server number `index`, e.g. its identity. */
  readonly serverArgs?: (index: number) => readonly string[]
  /** Arguments of `chorale bootstrap` instead of listening on free ports. */
  readonly bootstrapArgs?: readonly string[]
  /** Where server number `index` listens, and what it tells others instead; default: a free port on loopback. */
  readonly address?: (index: number) => { readonly listen: readonly string[]; readonly announce?: string }
  /** Lines that the processes write, each with who wrote it. */
  readonly onLine?: (who: string, line: string) => void
  /** Called as processes come up. */
  readonly onReady?: (ready: number, total: number) => void
  readonly signal?: AbortSignal
}

/** One server process on this machine. */
export interface OfflineServer extends Span {
  readonly pid: number
  readonly peerId: string
  readonly engine: string
  readonly addrs: readonly string[]
  readonly alive: boolean
  kill(signal: NodeJS.Signals): void
  /** Gives it a command (`serve --control`). */
  command(command: object): void
  /** Waits until the present process is gone, ending it if need be, and starts another: a new peer with the same span. */
  restart(): Promise<void>
}

/** A bootstrap peer and servers as processes on loopback. All of them end when this process does, however it ends. */
export interface OfflineSwarm {
  /** Addresses of the bootstrap peer. */
  readonly bootstrap: readonly string[]
  /** By span, replicas side by side. */
  readonly servers: readonly OfflineServer[]
  /** Ends the bootstrap peer and starts it again; with the same address when `bootstrapArgs` say so. */
  restartBootstrap(): Promise<void>
  /** Ends all processes and waits until they are gone. */
  stop(): Promise<void>
}

/** TCP for processes, WebSocket for pages. */
export const LOOPBACK = ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws']

/**
 * Starts a swarm on this machine that needs no other network.
 * @throws `internal` with the last lines of the process that did not come up, `timeout`, `cancelled`; nothing is
 * left running then.
 */
export async function startOfflineSwarm(options: OfflineSwarmOptions): Promise<OfflineSwarm> {
  const children = new Set<ChildVerb>()
  const starting = new Set<Promise<ChildVerb>>()
  const ended = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal
  const total = 1 + options.spans.length * (options.replicas ?? 1)
  let ready = 0

  async function start(who: string, args: readonly string[]): Promise<ChildVerb> {
    const onLine = (line: string) => options.onLine?.(who, line)
    const work = startChildVerb({ args: [...args, '--json'], onLine, signal })
    starting.add(work)
    try {
      const child = await work
      children.add(child)
      void child.exited.then(() => children.delete(child))
      options.onReady?.(Math.min(++ready, total), total)
      return child
    } finally {
      starting.delete(work)
    }
  }

  async function stop(): Promise<void> {
    ended.abort()
    await Promise.allSettled(starting)
    await Promise.all([...children].map((child) => child.stop()))
  }

  try {
    const bootstrapArgs = options.bootstrapArgs ?? ['--listen', ...LOOPBACK]
    const startBootstrap = () => start('bootstrap', ['bootstrap', ...bootstrapArgs])
    let first = await startBootstrap()
    const bootstrap = strings(first.ready['addrs'])
    const wanted = options.spans.flatMap((span) => Array.from({ length: options.replicas ?? 1 }, () => span))
    const launches = wanted.map((span, index) => {
      const args = serveArgs(options, span, bootstrap, index)
      return startServer(span, () => start(`server ${span.start}:${span.end}`, args))
    })
    const servers = await Promise.all(launches)
    const restartBootstrap = async (): Promise<void> => {
      await first.stop(0)
      first = await startBootstrap()
    }
    return { bootstrap, servers, restartBootstrap, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function serveArgs(
  options: OfflineSwarmOptions,
  span: Span,
  bootstrap: readonly string[],
  index: number,
): string[] {
  const { listen, announce } = options.address?.(index) ?? { listen: LOOPBACK }
  return [
    'serve',
    options.model,
    '--blocks',
    `${span.start}:${span.end}`,
    '--listen',
    ...listen,
    ...(announce === undefined ? [] : ['--announce', announce]),
    ...bootstrap.flatMap((address) => ['--bootstrap', address]),
    ...(options.engine === undefined ? [] : ['--engine', options.engine]),
    ...(options.threads === undefined ? [] : ['--threads', String(options.threads)]),
    // This swarm ends with its only client: nobody's session is worth waiting for.
    '--drain',
    '1',
    ...(options.serveArgs ?? []),
    ...(options.serverArgs?.(index) ?? []),
  ]
}

async function startServer(span: Span, start: () => Promise<ChildVerb>): Promise<OfflineServer> {
  let child = await start()
  return {
    ...span,
    get pid() {
      return child.pid
    },
    get peerId() {
      return String(child.ready['peerId'])
    },
    get engine() {
      return String(child.ready['engine'])
    },
    get addrs() {
      return strings(child.ready['addrs'])
    },
    get alive() {
      return child.alive
    },
    kill: (signal) => child.kill(signal),
    command: (command) => child.command(command),
    async restart() {
      await child.stop(0)
      child = await start()
    },
  }
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : []
}
