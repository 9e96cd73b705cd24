import { fork } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'

/** Ports on loopback that lead to others, later. */
export interface DelayedLinks {
  /** A port that leads to `target`, which need not listen yet. */
  open(target: number): Promise<number>
  /** Delay of all links from now on, one way, in milliseconds. */
  delay(oneWayMs: number): void
  close(): void
}

/** Starts the process that holds the links. */
export function startDelayedLinks(): DelayedLinks {
  const child = fork(join(import.meta.dirname, 'delay-proxy.ts'))
  const waiting = new Map<number, (port: number) => void>()
  child.on('message', ({ id, port }: { id: number; port: number }) => {
    waiting.get(id)?.(port)
    waiting.delete(id)
  })
  let next = 0
  return {
    open: (target) =>
      new Promise((resolve) => {
        const id = next++
        waiting.set(id, resolve)
        child.send({ id, target })
      }),
    delay: (oneWayMs) => void child.send({ oneWayMs }),
    close: () => {
      if (child.connected) child.disconnect()
    },
  }
}

/** A port on loopback that is free now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
