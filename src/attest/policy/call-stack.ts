import { Trap } from './arithmetic.ts'
import type { PolicyFunction } from './function-code.ts'
import type { GasMeter } from './gas-meter.ts'
import { OP } from './opcodes.ts'

/** An i32 as a signed number, an i64 as a signed bigint. */
export type Value = number | bigint

/** A function that runs. */
export interface Frame {
  readonly code: PolicyFunction
  /** Where its locals begin in `values`. */
  readonly base: number
  /** Labels that were open when it was called. */
  readonly labels: number
  /** Slot of its next instruction. */
  pc: number
}

/** Frames: recursion ends alike whatever the host's own stack. */
const MAX_DEPTH = 256
/** Values of all frames together, looked at with every call: bounds the memory of a run. */
const MAX_STACK = 65_536

/**
 * Values, frames and labels of a run. All that it needs to go on is here, not on the host's stack: a run can stop after
 * any instruction. Arrays never shrink (to set their length costs more than an instruction): what lies above `size` is
 * left over.
 */
export class CallStack {
  readonly values: Value[] = []
  size = 0
  readonly #frames: Frame[] = []
  /** Open labels: the slot of the block, and the size of the stack below it. */
  readonly #slots: number[] = []
  readonly #heights: number[] = []
  #labels = 0

  push(value: Value): void {
    this.values[this.size++] = value
  }

  pop(): Value {
    return this.values[--this.size]!
  }

  /** Calls a function whose parameters are on top. @throws Trap when calls nest too deep or the stack is full. */
  enter(code: PolicyFunction, gas: GasMeter): Frame {
    if (this.#frames.length >= MAX_DEPTH) throw new Trap(`calls nested deeper than ${MAX_DEPTH}`)
    gas.spend(code.locals.length)
    const frame = { code, base: this.size - code.parameters, labels: this.#labels, pc: 0 }
    for (const zero of code.locals) this.push(zero)
    if (this.size > MAX_STACK) throw new Trap(`a stack of more than ${MAX_STACK} values`)
    this.#frames.push(frame)
    return frame
  }

  /** Returns from `frame`, the innermost. @returns its caller; undefined for the outermost, whose result is on top. */
  leave(frame: Frame): Frame | undefined {
    this.#keep(frame.base, frame.code.results)
    this.#labels = frame.labels
    this.#frames.pop()
    return this.#frames.at(-1)
  }

  /** Opens the label of the block, loop or if at a slot. */
  open(slot: number): void {
    this.#slots[this.#labels] = slot
    this.#heights[this.#labels++] = this.size
  }

  /** At an `end`: closes the innermost label, or leaves. @returns as `leave`, or the frame itself. */
  end(frame: Frame): Frame | undefined {
    if (this.#labels === frame.labels) return this.leave(frame)
    this.#labels--
    return frame
  }

  /** Branches out of `depth` labels, or leaves. @returns as `leave`, or the frame itself. */
  branch(frame: Frame, depth: number): Frame | undefined {
    const at = this.#labels - 1 - depth
    if (at < frame.labels) return this.leave(frame)
    const slot = this.#slots[at]!
    const { ops, a, b } = frame.code
    const loop = ops[slot] === OP.loop
    this.#keep(this.#heights[at]!, loop ? 0 : b[slot]! & 1)
    frame.pc = (loop ? slot : a[slot]!) + 1
    this.#labels = loop ? at + 1 : at
    return frame
  }

  /** Keeps the top `arity` values and drops what lies between them and `height`. */
  #keep(height: number, arity: number): void {
    if (arity === 1) this.values[height] = this.values[this.size - 1]!
    this.size = height + arity
  }
}
