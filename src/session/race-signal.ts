import { ChoraleError } from '../errors.ts'
import { cancelled } from './check-step.ts'

/** `work`, or `cancelled` as soon as `signal` aborts; the work itself goes on and its outcome is dropped. */
export function raceSignal<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(cancelled())
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** `work`, or `timeout` saying `what` did not happen within `ms`; the work itself goes on. */
export async function raceDeadline<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ChoraleError('timeout', `${what} for ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves when `work` ended, however, or after `ms`. */
export async function atMost(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([
    work.then(
      () => undefined,
      () => undefined,
    ),
    late,
  ])
  clearTimeout(timer)
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', wake)
      resolve()
    }
    const timer = setTimeout(wake, ms)
    signal?.addEventListener('abort', wake)
    if (signal?.aborted) wake()
  })
}

/** Of the way from a token to the next step, in the longest of cases. */
const CATCH_UP_MICROTASKS = 12

/** Lets those catch up whose promises resolved together: some ask for their next step a few microtasks after others. */
export async function catchUp(): Promise<void> {
  for (let i = 0; i < CATCH_UP_MICROTASKS; i++) await Promise.resolve()
}

/** Of Node and Deno. */
const { setImmediate } = globalThis as { setImmediate?: (work: () => void) => unknown }

/**
 * Lets everything else that waits for this thread run: timers, sockets, key presses. Engines that compute on the
 * thread itself never leave it otherwise. A timer of 0 ms would cost a whole one.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (setImmediate) return void setImmediate(resolve)
    // Pages have no other way that costs microseconds.
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(undefined)
  })
}
