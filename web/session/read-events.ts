/** A line longer than this is no event of a gateway: a state of 10,000 servers has less. */
const MAX_BUFFER = 16 * 1024 * 1024

/** The `data` of server-sent events, as far as a gateway sends them: one line each. Ends with the stream. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      text += decoder.decode(value, { stream: true })
      if (text.length > MAX_BUFFER) throw new RangeError(`an event has more than ${MAX_BUFFER} characters`)
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim()
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}
