import type { Block, Chain } from './chain.ts'

/** @polkadot/api looks a block up when it hears "in block", and forgets to say so if "finalized" comes meanwhile. */
const NEWS_DELAY_MS = 50

/** Makes blocks final `lag` blocks behind the best one; the news of it follows a little later. */
export class Finality {
  /** Blocks by which finality lags behind the best block; 0 = each block is final at once. */
  lag: number
  readonly #chain: Chain
  readonly #delayMs: number
  readonly #tell: (blocks: readonly Block[]) => void
  readonly #news = new Set<ReturnType<typeof setTimeout>>()

  /** @param delayMs between a block and the news that it is final; default 50 @param tell must not throw */
  constructor(
    chain: Chain,
    lag: number,
    delayMs: number | undefined,
    tell: (blocks: readonly Block[]) => void,
  ) {
    this.#chain = chain
    this.lag = lag
    this.#delayMs = delayMs ?? NEWS_DELAY_MS
    this.#tell = tell
  }

  /** Makes final what is far enough behind the best block now. */
  advance(): void {
    const final = this.#chain.finalize(this.#chain.head.header.number - this.lag)
    if (final.length === 0) return
    const timer = setTimeout(() => {
      this.#news.delete(timer)
      this.#tell(final)
    }, this.#delayMs)
    this.#news.add(timer)
  }

  /** No news any more. */
  stop(): void {
    for (const timer of this.#news) clearTimeout(timer)
  }
}
