/**
 * Protocol buffers, the writing half of what an ONNX model needs: varints, length-delimited fields, fixed32.
 * Wire format: https://protobuf.dev/programming-guides/encoding
 */

import { joinBytes } from '../../bytes.ts'

const VARINT = 0
const LENGTH_DELIMITED = 2
const FIXED32 = 5

/** A message being written; fields appear in the order they are added. */
export interface MessageWriter {
  /** A non-negative integer below 2^53, or a negative one above -2^53 (int32, int64, enums). */
  integer(field: number, value: number): MessageWriter
  float(field: number, value: number): MessageWriter
  string(field: number, value: string): MessageWriter
  bytes(field: number, value: Uint8Array): MessageWriter
  /** A nested message. */
  message(field: number, value: MessageWriter): MessageWriter
  /** The message's bytes, copied. */
  finish(): Uint8Array
}

/** An empty message. */
export function messageWriter(): MessageWriter {
  const chunks: Uint8Array[] = []
  const encoder = new TextEncoder()

  const writer: MessageWriter = {
    integer(field, value) {
      chunks.push(varint(field * 8 + VARINT), varint(value))
      return writer
    },
    float(field, value) {
      const bytes = new Uint8Array(4)
      new DataView(bytes.buffer).setFloat32(0, value, true)
      chunks.push(varint(field * 8 + FIXED32), bytes)
      return writer
    },
    string: (field, value) => writer.bytes(field, encoder.encode(value)),
    bytes(field, value) {
      chunks.push(varint(field * 8 + LENGTH_DELIMITED), varint(value.length), value)
      return writer
    },
    message: (field, value) => writer.bytes(field, value.finish()),
    finish: () => joinBytes(chunks),
  }
  return writer
}

/** Negative numbers take ten bytes: the format sign-extends them to 64 bits. */
function varint(value: number): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value))
  const out: number[] = []
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  out.push(Number(rest))
  return Uint8Array.from(out)
}
