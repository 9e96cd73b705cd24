import { binary32, binary64, compare32, compare64, count32, count64 } from './arithmetic.ts'
import type { CallStack } from './call-stack.ts'
import { OP } from './opcodes.ts'

/** Does an instruction from `i32.eqz` on: it takes its operands from the stack and puts its result there. @throws Trap. */
export function compute(op: number, stack: CallStack): void {
  const top = stack.pop()
  if (op === OP.i32Eqz) stack.push(top === 0 ? 1 : 0)
  else if (op < OP.i64Eqz) stack.push(compare32(op, stack.pop() as number, top as number) ? 1 : 0)
  else if (op === OP.i64Eqz) stack.push(top === 0n ? 1 : 0)
  else if (op < OP.i32Clz) stack.push(compare64(op, stack.pop() as bigint, top as bigint) ? 1 : 0)
  else if (op < OP.i32Add) stack.push(count32(op, top as number))
  else if (op < OP.i64Clz) stack.push(binary32(op, stack.pop() as number, top as number))
  else if (op < OP.i64Add) stack.push(count64(op, top as bigint))
  else if (op < OP.i32WrapI64) stack.push(binary64(op, stack.pop() as bigint, top as bigint))
  else stack.push(convert(op, top))
}

function convert(op: number, value: number | bigint): number | bigint {
  switch (op) {
    case OP.i32WrapI64:
      return Number(BigInt.asIntN(32, value as bigint))
    case OP.i64ExtendI32S:
      return BigInt(value)
    case OP.i64ExtendI32U:
      return BigInt((value as number) >>> 0)
    case OP.i32Extend8S:
      return ((value as number) << 24) >> 24
    case OP.i32Extend16S:
      return ((value as number) << 16) >> 16
    default:
      // i64.extend8_s, 16_s, 32_s.
      return BigInt.asIntN(8 << (op - OP.i64Extend8S), value as bigint)
  }
}
