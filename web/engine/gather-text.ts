/** The page shows text a few times a second: quick tokens travel together. */
const TEXT_MS = 40

/** Text on its way to the page. */
export interface GatheredText {
  push(piece: string): void
  /** Sends what waits. */
  flush(): void
}

/** Sends the first piece at once, and those that come within `TEXT_MS` together, `TEXT_MS` after the last message. */
export function gatherText(send: (text: string) => void): GatheredText {
  let gathered = ''
  let timer: ReturnType<typeof setTimeout> | undefined
  let sentAt = -Infinity
  const flush = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (gathered === '') return
    sentAt = performance.now()
    send(gathered)
    gathered = ''
  }
  return {
    push(piece) {
      gathered += piece
      const wait = sentAt + TEXT_MS - performance.now()
      if (wait <= 0) flush()
      else timer ??= setTimeout(flush, wait)
    },
    flush,
  }
}
