/** Integer instructions of WebAssembly on JS values: i32 as signed numbers, i64 as signed bigints. */

/** Why a program stopped; the interpreter says it to people. */
export class Trap extends Error {}

/** i32 comparisons, 0x46 to 0x4f. */
export function compare32(op: number, a: number, b: number): boolean {
  switch (op) {
    case 0x46:
      return a === b
    case 0x47:
      return a !== b
    case 0x48:
      return a < b
    case 0x49:
      return a >>> 0 < b >>> 0
    case 0x4a:
      return a > b
    case 0x4b:
      return a >>> 0 > b >>> 0
    case 0x4c:
      return a <= b
    case 0x4d:
      return a >>> 0 <= b >>> 0
    case 0x4e:
      return a >= b
    default:
      return a >>> 0 >= b >>> 0
  }
}

/** i64 comparisons, 0x51 to 0x5a. */
export function compare64(op: number, a: bigint, b: bigint): boolean {
  const [x, y] = op % 2 === 0 && op >= 0x54 ? [u64(a), u64(b)] : [a, b]
  switch (op) {
    case 0x51:
      return a === b
    case 0x52:
      return a !== b
    case 0x53:
    case 0x54:
      return x < y
    case 0x55:
    case 0x56:
      return x > y
    case 0x57:
    case 0x58:
      return x <= y
    default:
      return x >= y
  }
}

/** i32 operators of two operands, 0x6a to 0x78. @throws Trap. */
export function binary32(op: number, a: number, b: number): number {
  switch (op) {
    case 0x6a:
      return (a + b) | 0
    case 0x6b:
      return (a - b) | 0
    case 0x6c:
      return Math.imul(a, b)
    case 0x6d:
      if (b === 0) throw new Trap('division by zero')
      if (a === -0x8000_0000 && b === -1) throw new Trap('division overflows')
      return (a / b) | 0
    case 0x6e:
      if (b === 0) throw new Trap('division by zero')
      return ((a >>> 0) / (b >>> 0)) | 0
    case 0x6f:
      if (b === 0) throw new Trap('division by zero')
      return (a % b) | 0
    case 0x70:
      if (b === 0) throw new Trap('division by zero')
      return ((a >>> 0) % (b >>> 0)) | 0
    case 0x71:
      return a & b
    case 0x72:
      return a | b
    case 0x73:
      return a ^ b
    case 0x74:
      return a << b
    case 0x75:
      return a >> b
    case 0x76:
      return (a >>> b) | 0
    case 0x77:
      return (a << b) | (a >>> (-b & 31))
    default:
      return (a >>> b) | (a << (-b & 31))
  }
}

/** i64 operators of two operands, 0x7c to 0x8a. @throws Trap. */
export function binary64(op: number, a: bigint, b: bigint): bigint {
  const shift = b & 63n
  switch (op) {
    case 0x7c:
      return s64(a + b)
    case 0x7d:
      return s64(a - b)
    case 0x7e:
      return s64(a * b)
    case 0x7f:
      if (b === 0n) throw new Trap('division by zero')
      if (a === -(1n << 63n) && b === -1n) throw new Trap('division overflows')
      return a / b
    case 0x80:
      if (b === 0n) throw new Trap('division by zero')
      return s64(u64(a) / u64(b))
    case 0x81:
      if (b === 0n) throw new Trap('division by zero')
      return a % b
    case 0x82:
      if (b === 0n) throw new Trap('division by zero')
      return s64(u64(a) % u64(b))
    case 0x83:
      return a & b
    case 0x84:
      return a | b
    case 0x85:
      return a ^ b
    case 0x86:
      return s64(a << shift)
    case 0x87:
      return a >> shift
    case 0x88:
      return s64(u64(a) >> shift)
    case 0x89:
      return s64((u64(a) << shift) | (u64(a) >> (64n - shift)))
    default:
      return s64((u64(a) >> shift) | (u64(a) << (64n - shift)))
  }
}

/** Count leading zeros, trailing zeros, ones of an i32: 0x67 to 0x69. */
export function count32(op: number, a: number): number {
  if (op === 0x67) return Math.clz32(a)
  if (op === 0x68) return a === 0 ? 32 : 31 - Math.clz32(a & -a)
  let ones = 0
  for (let rest = a >>> 0; rest !== 0; rest &= rest - 1) ones++
  return ones
}

/** The same of an i64: 0x79 to 0x7b. */
export function count64(op: number, a: bigint): bigint {
  const high = Number(BigInt.asIntN(32, a >> 32n))
  const low = Number(BigInt.asIntN(32, a))
  if (op === 0x79) return BigInt(high === 0 ? 32 + Math.clz32(low) : Math.clz32(high))
  if (op === 0x7a) return BigInt(low === 0 ? 32 + count32(0x68, high) : count32(0x68, low))
  return BigInt(count32(0x69, high) + count32(0x69, low))
}

/** Two's complement in 64 bits. */
export function s64(value: bigint): bigint {
  return BigInt.asIntN(64, value)
}

function u64(value: bigint): bigint {
  return BigInt.asUintN(64, value)
}
