// Threads on one memory: they run the same operation, take pieces of work from counters and meet at barriers.
//
// Who computes a piece never changes what is computed.

import {
  CONTROL_ARRIVED,
  CONTROL_BYTES,
  CONTROL_CLAIMS,
  CONTROL_GENERATION,
  CONTROL_SLEEPERS,
  MAX_PHASES,
  TILE_BYTES,
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
  tile = controlAddress + CONTROL_BYTES + <usize>threadIndex * TILE_BYTES
}

/** Every thread calls this first in an operation. */
export function startPhases(): void {
  phase = 0
}

/** Makes all counters zero; for the thread that starts an operation. */
export function clearClaims(): void {
  memory.fill(control + CONTROL_CLAIMS, 0, MAX_PHASES * 4)
}

/** The next piece of this phase's work that nobody has taken. */
export function claim(): i32 {
  return atomic.add<i32>(control + CONTROL_CLAIMS + (phase << 2), 1)
}

/** Goes on to the next phase's counter without waiting for anybody. */
export function nextPhase(): void {
  phase++
}

/** Ends a phase: waits for all threads. */
export function barrier(): void {
  phase++
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

/**
 * Where the piece with number `index` begins when a phase has `total` parts: three quarters of them go in pieces of a
 * quarter of a thread's share, the rest in pieces a quarter of that, so that a slow thread holds nobody up for long.
 */
export function pieceStart(index: i32, total: i32): i32 {
  if (threads == 1) return min(index, 1) * total
  const large = max(total / (threads * 4), 1)
  const beyond = index - threads * 3
  return min(total, beyond <= 0 ? index * large : threads * 3 * large + beyond * max(large / 4, 1))
}

/** As `pieceStart` for octets: two at a time, whose outputs fill a cache line, so that no line is two threads'. */
export function octetStart(index: i32, octets: i32): i32 {
  return min(pieceStart(index, (octets + 1) / 2) * 2, octets)
}

/** Parts in a piece of a phase that has `total` for each of several matrices. */
export function pieceOf(total: i32): i32 {
  if (threads == 1) return total
  const piece = total / (threads * 6)
  return piece < 1 ? 1 : piece
}
