import { ChoraleError } from '../../errors.ts'
import { binary32, binary64, compare32, compare64, count32, count64, s64, Trap } from './arithmetic.ts'
import type { PolicyFunction, PolicyModule } from './module.ts'
import { OP } from './opcodes.ts'

/**
 * Runs a policy program instruction by instruction. Every instruction costs 1 gas, a call 1 for each local, a page of
 * memory `PAGE_GAS`: the same program on the same input ends after the same gas everywhere, or traps everywhere.
 */
export interface PolicyInstance {
  /** Calls an exported function of i32s that gives one i32. @throws `ledger` when it traps or gas runs out. */
  call(name: string, ...parameters: number[]): number
  /** @throws `ledger` outside of memory. */
  read(offset: number, length: number): Uint8Array
  write(offset: number, bytes: Uint8Array): void
  readonly gasUsed: number
}

export interface PolicyLimits {
  readonly gas: number
  readonly pages: number
}

const PAGE = 65_536
const PAGE_GAS = 4_096
/** Frames: recursion ends alike whatever the host's own stack. */
const MAX_DEPTH = 256
const MAX_STACK = 65_536

interface Frame {
  readonly code: PolicyFunction
  /** Where its locals begin on the value stack. */
  readonly base: number
  /** Labels that were open when it was called. */
  readonly labels: number
  pc: number
}

type Value = number | bigint

/** A fresh instance: memory, globals, gas. @throws `ledger` when it wants more memory than `limits` allow. */
export function instantiate(module: PolicyModule, limits: PolicyLimits): PolicyInstance {
  const maxPages = Math.min(module.maxPages, limits.pages)
  if (module.minPages > maxPages) {
    throw failed(`it begins with ${module.minPages} pages of memory (at most ${maxPages})`)
  }
  let pages = module.minPages
  const memory = new DataView(new ArrayBuffer(maxPages * PAGE))
  const bytes = new Uint8Array(memory.buffer)
  const globals = [...module.globals]
  let gas = limits.gas

  const inside = (offset: number, length: number): number => {
    if (offset + length > pages * PAGE) throw new Trap(`memory access at ${offset} of ${pages * PAGE}`)
    return offset
  }
  const spend = (amount: number): void => {
    gas -= amount
    if (gas < 0) throw new Trap(`out of gas (${limits.gas})`)
  }
  for (const { offset, bytes: data } of module.data)
    bytes.set(
      data,
      trapped(() => inside(offset, data.length)),
    )

  const { start } = module
  if (start !== undefined) trapped(() => run(start, []))

  function run(index: number, parameters: readonly number[]): Value | undefined {
    const stack: Value[] = [...parameters]
    const frames: Frame[] = []
    /** Open labels: where a branch goes, the stack below, values that stay, whether it is a loop. */
    const targets: number[] = []
    const heights: number[] = []
    const arities: number[] = []
    const loops: boolean[] = []
    let frame = enter(index)

    function enter(callee: number): Frame {
      const code = module.functions[callee]!
      if (frames.length >= MAX_DEPTH) throw new Trap(`calls nested deeper than ${MAX_DEPTH}`)
      spend(code.locals.length)
      const next = { code, base: stack.length - code.parameters, labels: targets.length, pc: 0 }
      stack.push(...code.locals)
      if (stack.length > MAX_STACK) throw new Trap(`a stack of more than ${MAX_STACK} values`)
      frames.push(next)
      return next
    }
    function label(target: number, arity: number, loop: boolean): void {
      targets.push(target)
      heights.push(stack.length)
      arities.push(arity)
      loops.push(loop)
    }
    function cutLabels(count: number): void {
      targets.length = count
      heights.length = count
      arities.length = count
      loops.length = count
    }
    /** Keeps the top `arity` values and drops what lies between them and `height`. */
    function keep(height: number, arity: number): void {
      if (arity === 1) stack[height] = stack.at(-1)!
      stack.length = height + arity
    }
    /** @returns whether the outermost function returned. */
    function leave(): boolean {
      keep(frame.base, frame.code.results)
      cutLabels(frame.labels)
      frames.pop()
      const caller = frames.at(-1)
      if (caller === undefined) return true
      frame = caller
      return false
    }
    function branch(depth: number): boolean {
      const at = targets.length - 1 - depth
      if (at < frame.labels) return leave()
      const loop = loops[at]!
      keep(heights[at]!, loop ? 0 : arities[at]!)
      frame.pc = targets[at]!
      cutLabels(loop ? at + 1 : at)
      return false
    }
    const pop32 = (): number => stack.pop() as number
    const pop64 = (): bigint => stack.pop() as bigint
    const address = (offset: number, length: number): number =>
      inside((pop32() >>> 0) + (offset >>> 0), length)

    for (;;) {
      spend(1)
      const { code } = frame
      const slot = frame.pc++
      const op = code.ops[slot]!
      const a = code.a[slot]!
      if (op >= OP.i32Const) {
        computeStep(op, slot, a)
        continue
      }
      switch (op) {
        case OP.unreachable:
          throw new Trap('unreachable')
        case OP.nop:
          break
        case OP.block:
          label(a + 1, code.b[slot]!, false)
          break
        case OP.loop:
          label(slot + 1, 0, true)
          break
        case OP.if: {
          const condition = pop32()
          const afterElse = code.b[slot]! >> 1
          if (condition === 0 && afterElse === 0) frame.pc = a + 1
          else {
            label(a + 1, code.b[slot]! & 1, false)
            if (condition === 0) frame.pc = afterElse
          }
          break
        }
        case OP.else:
          // The end of the first half: on to `end`, which closes the label.
          frame.pc = a
          break
        case OP.end:
          if (targets.length > frame.labels) cutLabels(targets.length - 1)
          else if (leave()) return stack.pop()
          break
        case OP.br:
          if (branch(a)) return stack.pop()
          break
        case OP.brIf:
          if (pop32() !== 0 && branch(a)) return stack.pop()
          break
        case OP.brTable: {
          const table = code.tables.get(slot)!
          const choice = Math.min(pop32() >>> 0, table.length - 1)
          if (branch(table[choice]!)) return stack.pop()
          break
        }
        case OP.return:
          if (leave()) return stack.pop()
          break
        case OP.call:
          frame = enter(a)
          break
        case OP.drop:
          stack.pop()
          break
        case OP.select: {
          const condition = pop32()
          const second = stack.pop()!
          if (condition === 0) stack[stack.length - 1] = second
          break
        }
        case OP.localGet:
          stack.push(stack[frame.base + a]!)
          break
        case OP.localSet:
          stack[frame.base + a] = stack.pop()!
          break
        case OP.localTee:
          stack[frame.base + a] = stack.at(-1)!
          break
        case OP.globalGet:
          stack.push(globals[a]!)
          break
        case OP.globalSet:
          globals[a] = stack.pop()!
          break
        case OP.memorySize:
          stack.push(pages)
          break
        case OP.memoryGrow: {
          const more = pop32() >>> 0
          const before = pages
          if (more > maxPages - pages) stack.push(-1)
          else {
            spend(more * PAGE_GAS)
            pages += more
            stack.push(before)
          }
          break
        }
        default:
          accessMemory(op, a)
      }
    }

    function accessMemory(op: number, offset: number): void {
      switch (op) {
        case OP.i32Load:
          return void stack.push(memory.getInt32(address(offset, 4), true))
        case OP.i64Load:
          return void stack.push(memory.getBigInt64(address(offset, 8), true))
        case OP.i32Load8S:
          return void stack.push(memory.getInt8(address(offset, 1)))
        case OP.i32Load8U:
          return void stack.push(memory.getUint8(address(offset, 1)))
        case OP.i32Load16S:
          return void stack.push(memory.getInt16(address(offset, 2), true))
        case OP.i32Load16U:
          return void stack.push(memory.getUint16(address(offset, 2), true))
        case OP.i64Load8S:
          return void stack.push(BigInt(memory.getInt8(address(offset, 1))))
        case OP.i64Load8U:
          return void stack.push(BigInt(memory.getUint8(address(offset, 1))))
        case OP.i64Load16S:
          return void stack.push(BigInt(memory.getInt16(address(offset, 2), true)))
        case OP.i64Load16U:
          return void stack.push(BigInt(memory.getUint16(address(offset, 2), true)))
        case OP.i64Load32S:
          return void stack.push(BigInt(memory.getInt32(address(offset, 4), true)))
        case OP.i64Load32U:
          return void stack.push(BigInt(memory.getUint32(address(offset, 4), true)))
        default:
      }
      const value = stack.pop()!
      const narrow = typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : value
      switch (op) {
        case OP.i64Store:
          return memory.setBigInt64(address(offset, 8), value as bigint, true)
        case OP.i32Store:
        case OP.i64Store32:
          return memory.setInt32(address(offset, 4), narrow, true)
        case OP.i32Store16:
        case OP.i64Store16:
          return memory.setInt16(address(offset, 2), narrow, true)
        default:
          return memory.setInt8(address(offset, 1), narrow)
      }
    }

    function computeStep(op: number, slot: number, a: number): void {
      if (op === OP.i32Const) stack.push(a)
      else if (op === OP.i64Const) stack.push(frame.code.wide.get(slot)!)
      else if (op === OP.i32Eqz) stack.push(pop32() === 0 ? 1 : 0)
      else if (op === OP.i64Eqz) stack.push(pop64() === 0n ? 1 : 0)
      else if (op < OP.i64Eqz) {
        const right = pop32()
        stack.push(compare32(op, pop32(), right) ? 1 : 0)
      } else if (op < OP.i32Clz) {
        const right = pop64()
        stack.push(compare64(op, pop64(), right) ? 1 : 0)
      } else if (op < 0x6a) stack.push(count32(op, pop32()))
      else if (op < OP.i64Clz) {
        const right = pop32()
        stack.push(binary32(op, pop32(), right))
      } else if (op < 0x7c) stack.push(count64(op, pop64()))
      else if (op < OP.i32WrapI64) {
        const right = pop64()
        stack.push(binary64(op, pop64(), right))
      } else if (op === OP.i32WrapI64) stack.push(Number(BigInt.asIntN(32, pop64())))
      else if (op === OP.i64ExtendI32S) stack.push(BigInt(pop32()))
      else if (op === OP.i64ExtendI32U) stack.push(BigInt(pop32() >>> 0))
      else if (op === 0xc0) stack.push((pop32() << 24) >> 24)
      else if (op === 0xc1) stack.push((pop32() << 16) >> 16)
      else stack.push(s64(BigInt.asIntN(8 << (op - 0xc2), pop64())))
    }
  }

  return {
    call(name, ...parameters) {
      const index = module.exports.get(name)
      const code = index === undefined ? undefined : module.functions[index]
      if (
        index === undefined ||
        code === undefined ||
        code.parameters !== parameters.length ||
        code.results !== 1
      ) {
        throw failed(`it exports no function ${name} of ${parameters.length} integers`)
      }
      const result = trapped(() => run(index, parameters))
      if (typeof result !== 'number') throw failed(`its function ${name} gives no 32-bit integer`)
      return result
    },
    read: (offset, length) =>
      bytes.slice(
        trapped(() => inside(offset, length)),
        offset + length,
      ),
    write: (offset, data) =>
      bytes.set(
        data,
        trapped(() => inside(offset, data.length)),
      ),
    get gasUsed() {
      return limits.gas - Math.max(0, gas)
    },
  }
}

function trapped<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof Trap) throw failed(`it stopped: ${error.message}`)
    throw error
  }
}

function failed(reason: string): ChoraleError {
  return new ChoraleError('ledger', `policy program failed: ${reason}`, { field: 'policy' })
}
