import { ChoraleError } from '../errors.ts'
import { elementCount } from '../tensor/weight.ts'
import type { NumberTensor } from './safetensors.ts'

/** A tensor to write, with its name in the file. */
export interface NamedTensor extends NumberTensor {
  readonly name: string
}

/** A safetensors file of these tensors, in their order. @throws `bad_request` when data and shape disagree. */
export function writeSafetensors(tensors: readonly NamedTensor[]): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const { data, dtype, name, shape } of tensors) {
    if (elementCount(shape) !== data.length) {
      throw new ChoraleError('bad_request', `${name}: ${data.length} values for shape [${shape.join(', ')}]`)
    }
    if (Object.hasOwn(header, name)) throw new ChoraleError('bad_request', `two tensors are named ${name}`)
    header[name] = { dtype, shape, data_offsets: [end, end + data.byteLength] }
    end += data.byteLength
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  // Readers map the data in place: spaces after the JSON let it start at a multiple of 8.
  const headerBytes = Math.ceil(json.length / 8) * 8
  const file = new Uint8Array(8 + headerBytes + end)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true)
  file.set(json, 8)
  file.fill(0x20, 8 + json.length, 8 + headerBytes)
  let at = 8 + headerBytes
  for (const { data } of tensors) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at)
    at += data.byteLength
  }
  return file
}
