/**
 * Links with a delay, in a process of their own so that nobody's computing makes them late: `fork`ed, it takes
 * `{ id, target, oneWayMs }` over IPC and answers `{ id, port }`, a TCP port whose bytes reach `target` that much later,
 * and back. `{ oneWayMs }` alone changes the delay of all.
 */
import { connect, createServer, type Socket } from 'node:net'

/** What the parent asks. Ports are on loopback. */
export interface DelayRequest {
  readonly id: number
  readonly target: number
}

const HOST = '127.0.0.1'
let oneWayMs = 0

/** Bytes keep their order and leave `oneWayMs` after they came; nothing is lost. */
function carry(from: Socket, to: Socket): void {
  let due: { readonly at: number; readonly chunk: Buffer | undefined }[] = []
  let timer: ReturnType<typeof setTimeout> | undefined
  const flush = (): void => {
    timer = undefined
    const now = performance.now()
    const ready = due.filter(({ at }) => at <= now)
    due = due.slice(ready.length)
    for (const { chunk } of ready) {
      if (chunk) to.write(chunk)
      else to.end()
    }
    if (due[0]) timer = setTimeout(flush, Math.max(0, due[0].at - performance.now()))
  }
  const later = (chunk: Buffer | undefined): void => {
    due.push({ at: performance.now() + oneWayMs - TIMER_MS, chunk })
    timer ??= setTimeout(flush, Math.max(0, oneWayMs - TIMER_MS))
  }
  from.on('data', later)
  from.on('end', () => later(undefined))
  from.on('error', () => to.destroy())
  from.on('close', () => later(undefined))
}

/** Timers are late by half a millisecond on average. */
const TIMER_MS = 0.5

process.on('message', (message: Partial<DelayRequest> & { readonly oneWayMs?: number }) => {
  if (message.oneWayMs !== undefined) oneWayMs = message.oneWayMs
  const { id, target } = message
  if (id === undefined || target === undefined) return
  const server = createServer({ noDelay: true }, (inside) => {
    const outside = connect({ port: target, host: HOST, noDelay: true })
    carry(inside, outside)
    carry(outside, inside)
  })
  server.listen(0, HOST, () => {
    const address = server.address()
    process.send?.({ id, port: typeof address === 'object' && address !== null ? address.port : 0 })
  })
})
// Ends with the command, however that ends.
process.on('disconnect', () => process.exit(0))
