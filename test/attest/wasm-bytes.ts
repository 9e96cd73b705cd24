/** Writes small WebAssembly modules by hand. */

const I32 = 0x7f
const I64 = 0x7e
const MAGIC = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]

function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)]
}

function signed(value: bigint): number[] {
  const low = Number(value & 127n)
  const rest = value >> 7n
  const done = (rest === 0n && (low & 64) === 0) || (rest === -1n && (low & 64) !== 0)
  return done ? [low] : [low | 128, ...signed(rest)]
}

export function section(id: number, bytes: readonly number[]): number[] {
  return [id, ...unsigned(bytes.length), ...bytes]
}

/** One page of memory and one function `run`, which may be the start too; two parameters may be used as locals. */
export function moduleOf(
  parameters: readonly number[],
  results: readonly number[],
  code: readonly number[],
  start = false,
): Uint8Array<ArrayBuffer> {
  const text = (name: string) => [name.length, ...new TextEncoder().encode(name)]
  const inner = [0, ...code]
  return Uint8Array.from([
    ...MAGIC,
    ...section(1, [1, 0x60, parameters.length, ...parameters, results.length, ...results]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(7, [1, ...text('run'), 0, 0]),
    ...(start ? section(8, [0]) : []),
    ...section(10, [1, ...unsigned(inner.length), ...inner]),
  ])
}

export const body = {
  constant: (value: number | bigint): number[] => [
    typeof value === 'bigint' ? 0x42 : 0x41,
    ...signed(BigInt(value)),
  ],
}

/** Instructions in hex, spaces between them. */
export function hexToBytes(text: string): number[] {
  return text
    .replaceAll(' ', '')
    .match(/../g)!
    .map((pair) => Number.parseInt(pair, 16))
}

/** Every instruction that computes, with what it takes and gives. */
export const OPCODES: readonly {
  readonly op: number
  readonly from: readonly number[]
  readonly to: number
}[] = [
  { op: 0x45, from: [I32], to: I32 },
  ...range(0x46, 0x4f, [I32, I32], I32),
  { op: 0x50, from: [I64], to: I32 },
  ...range(0x51, 0x5a, [I64, I64], I32),
  ...range(0x67, 0x69, [I32], I32),
  ...range(0x6a, 0x78, [I32, I32], I32),
  ...range(0x79, 0x7b, [I64], I64),
  ...range(0x7c, 0x8a, [I64, I64], I64),
  { op: 0xa7, from: [I64], to: I32 },
  ...range(0xac, 0xad, [I32], I64),
  ...range(0xc0, 0xc1, [I32], I32),
  ...range(0xc2, 0xc4, [I64], I64),
]

function range(first: number, last: number, from: readonly number[], to: number) {
  return Array.from({ length: last - first + 1 }, (_, i) => ({ op: first + i, from, to }))
}
