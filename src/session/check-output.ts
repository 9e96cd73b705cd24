import { ChoraleError } from '../errors.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import { allFinite } from '../sampling/filters.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** @throws `protocol` unless `output` is [count, hiddenSize] finite numbers: what a broken server sends first is NaN. */
export function checkOutput(output: Tensor, count: number, hiddenSize: number, server: ServerRecord): void {
  const [gotRows, gotColumns] = output.shape
  if (gotRows !== count || gotColumns !== hiddenSize || output.data.length !== count * hiddenSize) {
    throw new ChoraleError(
      'protocol',
      `${server.peerId} answered [${gotRows}, ${gotColumns}] instead of [${count}, ${hiddenSize}]`,
    )
  }
  if (!allFinite(output.data)) {
    throw new ChoraleError('protocol', `${server.peerId} answered hidden states that are not finite numbers`)
  }
}
