import { ChoraleError } from '../../../src/errors.ts'

/** Gathers a repeatable `--model`. */
export function collectModel(value: string, previous: string[]): string[] {
  return [...previous, value]
}

/** Reads a count above zero. @throws `bad_config` naming the flag. */
export function positiveFlag(text: string, field: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text.trim())) {
    throw new ChoraleError('bad_config', `--${field} ${JSON.stringify(text)} is not a positive count`, {
      field,
    })
  }
  return Number(text)
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

export function roundTo(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

/** `--activation-bits`: what the wasm engine rounds activations to before they meet quantised weights. @throws `bad_config`. */
export function activationBitsFlag(text: string): 8 | 15 {
  if (text === '8' || text === '15') return Number(text) as 8 | 15
  throw new ChoraleError('bad_config', `--activation-bits ${JSON.stringify(text)}: 8 or 15`, {
    field: 'activation-bits',
  })
}
