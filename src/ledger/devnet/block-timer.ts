/** When blocks are made: at once for each ready extrinsic, every so many milliseconds, or when asked. */
export type BlockMode = 'instant' | 'manual' | { readonly everyMs: number }

/** Calls for a block when its mode says so. */
export class BlockTimer {
  readonly #make: () => void
  #mode: BlockMode = 'manual'
  #interval: ReturnType<typeof setInterval> | undefined
  #soon: ReturnType<typeof setTimeout> | undefined

  /** @param make makes a block if there is a reason to; must not throw */
  constructor(make: () => void) {
    this.#make = make
  }

  get mode(): BlockMode {
    return this.#mode
  }

  set mode(mode: BlockMode) {
    this.stop()
    this.#mode = mode
    if (typeof mode === 'object') this.#interval = setInterval(this.#make, mode.everyMs)
  }

  /** Something is ready: in instant mode a block follows after this tick, so that what is sent together shares it. */
  ready(): void {
    if (this.#mode !== 'instant') return
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined
      this.#make()
    }, 0)
  }

  stop(): void {
    clearInterval(this.#interval)
    clearTimeout(this.#soon)
    this.#soon = undefined
  }
}
