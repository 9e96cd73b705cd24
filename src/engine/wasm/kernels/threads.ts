// Threads on one memory: they run the same operation, take pieces of its work and meet at barriers.
//
// Who computes a piece never changes what is computed.

import {
  CONTROL_ARRIVED,
  CONTROL_BYTES,
  CONTROL_GENERATION,
  CONTROL_SLEEPERS,
  MAX_PHASES,
  THREAD_BYTES,
  THREAD_TAKEN,
  THREAD_TILE,
} from '../layout'

/**
 * Looks at a barrier before a thread goes to sleep: some 10 µs. Ten times as many made one answer of a model of 3 million
 * weights a third faster, and three servers that share two cores an eighth slower.
 */
const BARRIER_SPINS = 20000

/** Globals of a module belong to one instance, so to one thread. */
let control: usize = 0
export let thread: i32 = 0
export let threads: i32 = 1
let phase: usize = 0
/** This thread's scratch for a matmul. */
export let tile: usize = 0
/** Whether two vectors of 128 bits are one of the machine's: then twice as many sums stay in registers. */
export let wideVectors: bool = false

export function bindThread(controlAddress: usize, threadIndex: i32, threadCount: i32, vectorBits: i32): void {
  control = controlAddress
  thread = threadIndex
  threads = threadCount
  wideVectors = vectorBits == 256
  tile = controlAddress + CONTROL_BYTES + <usize>threadIndex * THREAD_BYTES + THREAD_TILE
}

/** Every thread calls this first in an operation. */
export function startPhases(): void {
  phase = 0
  owner = thread
}

/** Makes all counters zero; for the thread that starts an operation. */
export function clearTaken(): void {
  for (let other = 0; other < threads; other++) memory.fill(takenBy(other), 0, MAX_PHASES * 4)
}

// @ts-ignore: decorator
@inline
function takenBy(other: i32): usize {
  return control + CONTROL_BYTES + <usize>other * THREAD_BYTES + THREAD_TAKEN
}

/** What `take` took: parts [from, to). */
export let from: i32 = 0
export let to: i32 = 0
/** Whose share this thread is working on. */
let owner: i32 = 0

/**
 * Takes the next piece of this phase's `total` parts; false when none is left. A thread has the same share of them in every
 * step and takes half of what is left of it at a time, so that its data stay in its core's cache; then it helps others.
 */
export function take(total: i32): bool {
  while (true) {
    const first = (total * owner) / threads
    const share = (total * (owner + 1)) / threads - first
    const index = min(atomic.add<i32>(takenBy(owner) + (phase << 2), 1), 31)
    from = first + share - (share >> index)
    to = first + share - (share >> min(index + 1, 31))
    if (from < to) return true
    owner = owner + 1 == threads ? 0 : owner + 1
    if (owner == thread) return false
  }
}

/** As `take` for octets: two at a time, whose outputs fill a cache line, so that no line is two threads'. */
export function takeOctets(octets: i32): bool {
  if (!take((octets + 1) / 2)) return false
  from *= 2
  to = min(to * 2, octets)
  return true
}

/** Ends a phase: waits for all threads. */
export function barrier(): void {
  phase++
  owner = thread
  if (threads == 1) return
  const generation = atomic.load<i32>(control, CONTROL_GENERATION)
  if (atomic.add<i32>(control + CONTROL_ARRIVED, 1) == threads - 1) {
    atomic.store<i32>(control + CONTROL_ARRIVED, 0)
    atomic.store<i32>(control + CONTROL_GENERATION, generation + 1)
    if (atomic.load<i32>(control, CONTROL_SLEEPERS) > 0) atomic.notify(control + CONTROL_GENERATION, -1)
    return
  }
  for (let spin = 0; spin < BARRIER_SPINS; spin++) {
    if (atomic.load<i32>(control, CONTROL_GENERATION) != generation) return
  }
  atomic.add<i32>(control + CONTROL_SLEEPERS, 1)
  while (atomic.load<i32>(control, CONTROL_GENERATION) == generation) {
    atomic.wait<i32>(control + CONTROL_GENERATION, generation, -1)
  }
  atomic.sub<i32>(control + CONTROL_SLEEPERS, 1)
}
