import type { GenerateEvent } from '../session/language-model.ts'
import { isClientGone, type Answer } from './answer.ts'

/** How a stream's events become JSON chunks. */
export interface ChunkWriter {
  /** Chunks before the first event. */
  start(): readonly unknown[]
  event(event: GenerateEvent): readonly unknown[]
}

export interface SseOptions {
  readonly keepAliveMs: number
  /** The body of an error that comes after the headers went out; logs it too. */
  readonly errorBody: (error: unknown) => unknown
}

const encoder = new TextEncoder()

/**
 * Streams an answer as server-sent events, ended by `[DONE]`, or by an error without it.
 *
 * The headers wait for the first event, at most `keepAliveMs`: what fails before (no chain, no room, a full line)
 * keeps its own HTTP status. An answer is generated as fast as the model can, not as the client reads, so that a
 * slow reader doesn't hold KV room on the servers; what waits for him is bounded by the answer's tokens.
 * @throws what the first event throws.
 */
export async function streamAnswer(
  answer: Answer,
  writer: ChunkWriter,
  options: SseOptions,
): Promise<Response> {
  const first = answer.events.next()
  await settledOrAfter(first, options.keepAliveMs)
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      void pump(controller, first, answer, writer, options)
    },
    cancel: () => answer.abort(),
  })
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    },
  })
}

async function pump(
  controller: ReadableStreamDefaultController<Uint8Array>,
  first: Promise<IteratorResult<GenerateEvent, void>>,
  answer: Answer,
  writer: ChunkWriter,
  options: SseOptions,
): Promise<void> {
  let gone = false
  const write = (text: string) => {
    if (gone) return
    try {
      controller.enqueue(encoder.encode(text))
    } catch {
      // The reader cancelled between two writes.
      gone = true
    }
  }
  const writeAll = (chunks: readonly unknown[]) => {
    for (const chunk of chunks) write(`data: ${JSON.stringify(chunk)}\n\n`)
  }
  let ping = setInterval(() => write(': ping\n\n'), options.keepAliveMs)
  try {
    writeAll(writer.start())
    for (let step = await first; step.done !== true; step = await answer.events.next()) {
      clearInterval(ping)
      ping = setInterval(() => write(': ping\n\n'), options.keepAliveMs)
      if (step.value.type === 'failover') {
        const { start, end } = step.value.span
        write(`: failover of blocks ${start}:${end}\n\n`)
      }
      writeAll(writer.event(step.value))
    }
    write('data: [DONE]\n\n')
  } catch (error) {
    if (!isClientGone(error)) writeAll([options.errorBody(error)])
  } finally {
    clearInterval(ping)
    try {
      controller.close()
    } catch {
      // Cancelled already.
    }
  }
}

/** Waits until `promise` settles, at most `ms`. @throws what it throws in that time. */
async function settledOrAfter(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const elapsed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  try {
    await Promise.race([promise, elapsed])
  } finally {
    clearTimeout(timer)
  }
}
