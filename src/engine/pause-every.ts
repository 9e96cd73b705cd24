/**
 * A function that waits for one turn of the event loop when `ms` milliseconds have passed since it last did: engines
 * that compute on the thread of the network call it between blocks, so that heartbeats and other sessions are heard.
 */
export function pauseEvery(ms: number): () => Promise<void> {
  let last = performance.now()
  return async () => {
    if (performance.now() - last < ms) return
    await new Promise<void>((resolve) => {
      setTimeout(resolve, 0)
    })
    last = performance.now()
  }
}
