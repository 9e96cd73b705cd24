import { fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
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

/** Below what systems give to outgoing connections and to those who ask for any port, so that it stays free. */
const PORTS = { from: 16_384, to: 32_767 }

/** A port on loopback that is free now. @throws the last error when many in a row are not. */
export async function freePort(): Promise<number> {
  for (let attempts = 50; ; attempts--) {
    const port = randomInt(PORTS.from, PORTS.to + 1)
    try {
      await new Promise<void>((resolve, reject) => {
        const server = createServer()
        server.once('error', reject)
        server.listen(port, '127.0.0.1', () => server.close(() => resolve()))
      })
      return port
    } catch (error) {
      if (attempts === 0) throw error
    }
  }
}
