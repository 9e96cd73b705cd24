import type { Context } from 'hono'
import type { ApiContext, ApiEnv } from './context.ts'
import { ApiError } from './errors.ts'

/** How often the swarm is looked at while somebody listens. */
const LOOK_MS = 1_000
/** Listeners at once: each is an open connection. */
const MAX_LISTENERS = 128

/** `GET /api/v1/events`: the state of the swarm as server-sent events, one at once and one at every change. */
export interface StateEvents {
  listen(c: Context<ApiEnv>): Response
}

const encoder = new TextEncoder()

/** One look serves all listeners; nobody looks while nobody listens. @param state what `GET /api/v1/state` gives. */
export function createStateEvents(
  api: Pick<ApiContext, 'limits'>,
  state: () => Promise<unknown>,
): StateEvents {
  const listeners = new Set<(text: string) => void>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let last = ''
  let said = 0

  const tell = (text: string): void => {
    said = Date.now()
    for (const write of listeners) write(text)
  }

  const look = async (): Promise<void> => {
    try {
      const now = JSON.stringify(await state())
      if (now !== last) {
        last = now
        tell(`event: state\ndata: ${now}\n\n`)
      } else if (Date.now() - said >= api.limits.keepAliveMs) tell(': ping\n\n')
    } catch {
      // The network could not be asked; the next look may succeed, and silence says nothing wrong.
    }
    timer = listeners.size > 0 ? setTimeout(() => void look(), LOOK_MS) : undefined
  }

  return {
    listen(c) {
      if (listeners.size >= MAX_LISTENERS) {
        throw new ApiError(503, 'unavailable_error', `${MAX_LISTENERS} listeners are here already`, {
          code: 'capacity',
        })
      }
      let write: (text: string) => void = () => undefined
      const stop = (): void => void listeners.delete(write)
      const body = new ReadableStream<Uint8Array>(
        {
          start(controller) {
            write = (text) => {
              // Who does not read gets nothing more than the stream's small buffer holds.
              if ((controller.desiredSize ?? 0) <= 0) return
              controller.enqueue(encoder.encode(text))
            }
            listeners.add(write)
            if (last !== '' && timer !== undefined) write(`event: state\ndata: ${last}\n\n`)
            else if (timer === undefined) {
              last = ''
              timer = setTimeout(() => void look(), 0)
            }
          },
          cancel: stop,
        },
        { highWaterMark: 8 },
      )
      c.req.raw.signal.addEventListener('abort', stop)
      return new Response(body, {
        headers: {
          'content-type': 'text/event-stream; charset=utf-8',
          'cache-control': 'no-cache',
          'x-accel-buffering': 'no',
        },
      })
    },
  }
}
