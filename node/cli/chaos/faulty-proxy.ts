import { connect, createServer, type Socket } from 'node:net'

/** What a link does to the bytes on it. */
export type LinkFault = 'slow' | 'half-open' | 'corrupt'

/** A TCP port on loopback that leads to another one and can misbehave. */
export interface FaultyProxy {
  readonly port: number
  /**
   * `slow`: bytes come late, in order. `half-open`: they vanish while connections stay open, as when a machine loses its
   * network. `corrupt`: one bit of the next bytes from the server is flipped.
   * @returns how to mend it; connections that lost bytes are reset then.
   */
  hurt(fault: LinkFault): () => void
  close(): void
}

const HOST = '127.0.0.1'
/** Added to each piece of bytes on a slow link, one way. */
const SLOW_MS = 40

/** Opens a port that leads to `target`, which need not listen yet. */
export async function startFaultyProxy(target: number): Promise<FaultyProxy> {
  let fault: LinkFault | undefined
  const pairs = new Set<readonly [Socket, Socket]>()
  const lossy = new Set<readonly [Socket, Socket]>()

  const server = createServer({ noDelay: true }, (inside) => {
    const outside = connect({ port: target, host: HOST, noDelay: true })
    const pair = [inside, outside] as const
    pairs.add(pair)
    const carry = (from: Socket, to: Socket, corruptible: boolean): void => {
      let late: Promise<void> = Promise.resolve()
      from.on('data', (chunk: Buffer) => {
        if (fault === 'half-open') return void lossy.add(pair)
        if (fault === 'corrupt' && corruptible) {
          chunk[chunk.length >> 1]! ^= 1
          fault = undefined
        }
        const wait = fault === 'slow' ? new Promise<void>((resolve) => setTimeout(resolve, SLOW_MS)) : late
        // Bytes never overtake those before them.
        late = Promise.all([late, wait]).then(() => void to.write(chunk))
      })
      from.on('end', () => void late.then(() => to.end()))
      from.on('error', () => to.destroy())
      from.on('close', () => {
        pairs.delete(pair)
        lossy.delete(pair)
        to.destroySoon()
      })
    }
    carry(inside, outside, false)
    carry(outside, inside, true)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, HOST, resolve)
  })
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    hurt: (kind) => {
      fault = kind
      return () => {
        fault = undefined
        for (const [inside, outside] of lossy) {
          inside.resetAndDestroy()
          outside.resetAndDestroy()
        }
      }
    },
    close: () => {
      server.close()
      for (const [inside, outside] of pairs) {
        inside.destroy()
        outside.destroy()
      }
    },
  }
}
