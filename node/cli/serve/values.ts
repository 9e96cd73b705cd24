import { ChoraleError } from '../../../src/errors.ts'
import type { Span } from '../../../src/session/span-runner.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
}

/** Bytes of `2GB`, `512MiB`, `1.5gb`. @throws `bad_config` naming the flag. */
export function parseMemory(text: string, flag = 'max-memory'): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim())
  const unit = UNITS[match?.[2]?.toUpperCase() ?? 'x']
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? Number.NaN))
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new ChoraleError('bad_config', `--${flag} ${text}: give an amount like 2GB or 512MiB`, {
      field: flag,
    })
  }
  return bytes
}

/** `0:4` as a span, `auto` as undefined. @throws `bad_config` unless it is one of them and not empty. */
export function parseBlocks(text: string): Span | undefined {
  if (text === 'auto') return undefined
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text)
  const start = Number(match?.[1])
  const end = Number(match?.[2])
  if (match === null || end <= start) {
    throw new ChoraleError(
      'bad_config',
      `--blocks ${text}: give START:END with END exclusive and greater than START, like 0:4, or auto`,
      { field: 'blocks' },
    )
  }
  return { start, end }
}

/** A whole number of at least `min`. @throws `bad_config` naming the flag. */
export function parseCount(flag: string, text: string, min: number): number {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min)) {
    throw new ChoraleError('bad_config', `--${flag} ${text}: give a whole number of at least ${min}`, {
      field: flag,
    })
  }
  return value
}
