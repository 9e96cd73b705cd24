import { Trap } from './arithmetic.ts'
import { CallStack, type Frame, type Value } from './call-stack.ts'
import { compute } from './compute.ts'
import type { GasMeter } from './gas-meter.ts'
import type { LinearMemory } from './linear-memory.ts'
import type { PolicyModule } from './module.ts'
import { OP } from './opcodes.ts'

/** Gas of a page that memory grows by. */
const PAGE_GAS = 4_096

/** What one call of a function works on: it outlives the call, but for the stack. */
export interface MachineState {
  readonly module: PolicyModule
  readonly memory: LinearMemory
  readonly globals: Value[]
  readonly gas: GasMeter
}

/** One call of a function, instruction by instruction; it stops and goes on at any of them. */
export class Machine {
  readonly #state: MachineState
  readonly #stack = new CallStack()
  /** Undefined when it has returned. */
  #frame: Frame | undefined

  /** @param index of a function that takes `parameters`. @throws Trap without gas for its locals. */
  constructor(state: MachineState, index: number, parameters: readonly Value[]) {
    this.#state = state
    for (const parameter of parameters) this.#stack.push(parameter)
    this.#frame = this.#stack.enter(state.module.functions[index]!, state.gas)
  }

  /** What it returned; undefined before, and of a function without a result. */
  get result(): Value | undefined {
    return this.#frame === undefined && this.#stack.size > 0 ? this.#stack.values[0] : undefined
  }

  /**
   * Goes on until it returns, or until no more than `until` gas is left: the gas of an instruction is spent when it runs,
   * so that where runs stop changes nothing. @returns whether it has returned. @throws Trap.
   */
  resume(until: number): boolean {
    const { module, memory, globals, gas } = this.#state
    const stack = this.#stack
    const { values } = stack
    let frame = this.#frame
    while (frame !== undefined && gas.left > until) {
      gas.spend(1)
      const { code } = frame
      const slot = frame.pc++
      const op = code.ops[slot]!
      const a = code.a[slot]!
      if (op >= OP.i32Eqz) {
        compute(op, stack)
        continue
      }
      switch (op) {
        case OP.unreachable:
          throw new Trap('unreachable')
        case OP.nop:
          break
        case OP.block:
        case OP.loop:
          stack.open(slot)
          break
        case OP.if: {
          const condition = stack.pop()
          const afterElse = code.b[slot]! >> 1
          if (condition === 0 && afterElse === 0) frame.pc = a + 1
          else {
            stack.open(slot)
            if (condition === 0) frame.pc = afterElse
          }
          break
        }
        case OP.else:
          // The end of the first half: on to `end`, which closes the label.
          frame.pc = a
          break
        case OP.end:
          frame = stack.end(frame)
          break
        case OP.br:
          frame = stack.branch(frame, a)
          break
        case OP.brIf:
          if (stack.pop() !== 0) frame = stack.branch(frame, a)
          break
        case OP.brTable: {
          const table = code.tables.get(slot)!
          const choice = Math.min((stack.pop() as number) >>> 0, table.length - 1)
          frame = stack.branch(frame, table[choice]!)
          break
        }
        case OP.return:
          frame = stack.leave(frame)
          break
        case OP.call:
          frame = stack.enter(module.functions[a]!, gas)
          break
        case OP.drop:
          stack.pop()
          break
        case OP.select: {
          const condition = stack.pop()
          const second = stack.pop()
          if (condition === 0) values[stack.size - 1] = second
          break
        }
        case OP.localGet:
          stack.push(values[frame.base + a]!)
          break
        case OP.localSet:
          values[frame.base + a] = stack.pop()
          break
        case OP.localTee:
          values[frame.base + a] = values[stack.size - 1]!
          break
        case OP.globalGet:
          stack.push(globals[a]!)
          break
        case OP.globalSet:
          globals[a] = stack.pop()
          break
        case OP.memorySize:
          stack.push(memory.pages)
          break
        case OP.memoryGrow: {
          const more = (stack.pop() as number) >>> 0
          const before = memory.pages
          if (more > memory.maxPages - before) stack.push(-1)
          else {
            gas.spend(more * PAGE_GAS)
            memory.pages += more
            stack.push(before)
          }
          break
        }
        case OP.i32Const:
          stack.push(a)
          break
        case OP.i64Const:
          stack.push(code.wide.get(slot)!)
          break
        default:
          if (op < OP.i32Store) {
            stack.push(memory.load(op, (stack.pop() as number) >>> 0, a >>> 0))
          } else {
            const value = stack.pop()
            memory.store(op, (stack.pop() as number) >>> 0, a >>> 0, value)
          }
      }
    }
    this.#frame = frame
    return frame === undefined
  }
}
