import { ChoraleError } from '../../../errors.ts'
import type { ScaleReader, ScaleWriter } from './scale-bytes.ts'

/** How long a transaction may be included: for ever, or `period` blocks from a block that is `phase` modulo it. */
export type Era = 'immortal' | { readonly period: number; readonly phase: number }

/** Reads an era: 0, or two bytes. @throws `ledger` when period and phase don't fit. */
export function readEra(reader: ScaleReader): Era {
  const first = reader.small(1, false)
  if (first === 0) return 'immortal'
  const encoded = first + reader.small(1, false) * 256
  const period = 2 << (encoded % 16)
  const phase = (encoded >> 4) * Math.max(1, period >> 12)
  if (period < 4 || phase >= period)
    throw new ChoraleError('ledger', `era with period ${period} and phase ${phase} is impossible`)
  return { period, phase }
}

/** Writes an era; its period must be a power of two from 4 to 65536, its phase below it. */
export function writeEra(era: Era, writer: ScaleWriter): void {
  if (era === 'immortal') return writer.small(0, 1)
  const trailing = Math.log2(era.period) - 1
  const encoded = Math.min(15, Math.max(1, trailing)) | ((era.phase / Math.max(1, era.period >> 12)) << 4)
  writer.small(encoded, 2)
}

/** An era that begins at `block` (`period` a power of two from 4 to 65536 blocks, 64 usual). */
export function mortalEra(block: number, period = 64): Era {
  const quantum = Math.max(1, period >> 12)
  return { period, phase: Math.floor((block % period) / quantum) * quantum }
}

/** The block whose hash the signature covers, seen from block `current`. */
export function eraBirth(era: Era, current: number): number {
  if (era === 'immortal') return 0
  return Math.floor((Math.max(current, era.phase) - era.phase) / era.period) * era.period + era.phase
}

/** First block in which the transaction counts no more. */
export function eraDeath(era: Era, current: number): number | undefined {
  return era === 'immortal' ? undefined : eraBirth(era, current) + era.period
}
