import { joinBytes } from '../bytes.ts'
import type { OutgoingFrame } from '../protocol/frame.ts'
import type { Step } from '../protocol/messages.ts'
import type { FramedStream } from './framed-stream.ts'

/** A step's answer on its way out. */
export interface HeldOutput {
  readonly step: Step
  /** As it came over the wire. */
  readonly input: Uint8Array
  readonly frame: OutgoingFrame
}

/** Outputs that the next server has already: the client only keeps them, so a few travel together. */
export interface HeldOutputs {
  /** Sends it with those held before it; one that `canWait` may be held back itself. Resolves when it was handed over, or kept. */
  add(output: HeldOutput, canWait: boolean): Promise<void>
  /** Sends what is held. */
  flush(): Promise<void>
  /** Drops what is held. */
  clear(): void
}

/** Each message wakes the client up while the next token is on its way; a batch does so once. */
const MAX_HELD = 8
/** One message of noise holds 64 KiB. */
const MAX_HELD_BYTES = 48 * 1024
/** Far below the time after which a client thinks that a server stalls. */
const HOLD_MS = 12

/** None held yet; `onSent` is called for each output after it was handed to `wire`. */
export function createHeldOutputs(wire: FramedStream, onSent: (output: HeldOutput) => void): HeldOutputs {
  let held: HeldOutput[] = []
  let bytes = 0
  let timer: ReturnType<typeof setTimeout> | undefined

  const clear = (): void => {
    clearTimeout(timer)
    timer = undefined
    held = []
    bytes = 0
  }
  const flush = async (): Promise<void> => {
    const outputs = held
    clear()
    if (outputs.length === 0) return
    await wire.send(() => joinBytes(outputs.map(({ frame }) => frame.bytes)))
    for (const output of outputs) onSent(output)
  }
  return {
    add: async (output, canWait) => {
      held.push(output)
      bytes += output.frame.bytes.length
      if (!canWait || held.length >= MAX_HELD || bytes > MAX_HELD_BYTES) return await flush()
      // A stream that ended says so itself.
      timer ??= setTimeout(() => void flush().catch(() => undefined), HOLD_MS)
    },
    flush,
    clear,
  }
}
