/** A growing text is shown this often: faster than anybody reads. */
const SHOW_MS = 80
/** Showing it takes at most an eighth of the time, which the answer's own computing may need on the same cores. */
const SHARE = 8
/** But a text that stands still for longer looks stuck. */
const MOST_MS = 500

/** Updates of what is on the screen. */
export interface Frames {
  /** Something is new. */
  soon(): void
  /** Nothing is new any more: an update that waits is dropped. */
  end(): void
}

/**
 * Runs `update` soon after each change, in a frame, and not more often than painting it is worth. A page that is hidden
 * gets no frames and is updated at the end.
 */
export function frameByFrame(update: () => void): Frames {
  let state: 'shown' | 'waiting' | 'painting' = 'shown'
  /** Something came while the last update was painted. */
  let more = false
  let ended = false
  let frame: number | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let nextAt = -Infinity

  const soon = (): void => {
    more = state === 'painting'
    if (state !== 'shown' || ended) return
    state = 'waiting'
    timer = setTimeout(
      () => {
        frame = requestAnimationFrame(show)
      },
      Math.max(0, nextAt - performance.now()),
    )
  }
  const show = (): void => {
    const began = performance.now()
    state = 'painting'
    update()
    // The first task after the frame: rendered, laid out and painted by then.
    timer = setTimeout(() => {
      nextAt = began + Math.min(Math.max(SHOW_MS, SHARE * (performance.now() - began)), MOST_MS)
      state = 'shown'
      if (more) soon()
    })
  }
  return {
    soon,
    end: () => {
      ended = true
      clearTimeout(timer)
      if (frame !== undefined) cancelAnimationFrame(frame)
    },
  }
}
