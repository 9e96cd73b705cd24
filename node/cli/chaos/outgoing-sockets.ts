import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'

/** The TCP connections this process opens, so that one can be cut as a network would: without a word. */
export interface OutgoingSockets {
  /** Resets every connection to `port`. @returns how many there were. */
  cut(port: number): number
  close(): void
}

/** Watches from now on; connections that are open already are not seen. */
export function watchOutgoingSockets(): OutgoingSockets {
  const sockets = new Set<Socket>()
  const onSocket = (message: unknown) => {
    const { socket } = message as { socket: Socket }
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  }
  subscribe('net.client.socket', onSocket)
  return {
    cut(port) {
      const there = [...sockets].filter((socket) => socket.remotePort === port)
      for (const socket of there) socket.resetAndDestroy()
      return there.length
    },
    close: () => void unsubscribe('net.client.socket', onSocket),
  }
}
