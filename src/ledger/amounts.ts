import { ChoraleError } from '../errors.ts'

/** Digits before the point: no supply has more. */
const MAX_WHOLE_DIGITS = 20

/** `100`, `100.5`, `0.000001` tokens in the smallest unit. @throws `bad_config` for anything else, or too many decimals. */
export function parseAmount(text: string, decimals: number, field = 'amount'): bigint {
  const match = /^(\d+)(?:\.(\d+))?$/.exec(text.trim())
  if (match === null || (match[1]?.length ?? 0) > MAX_WHOLE_DIGITS) {
    throw new ChoraleError('bad_config', `${field} ${text}: give tokens like 100 or 100.5`, { field })
  }
  const [, whole = '0', fraction = ''] = match
  if (fraction.length > decimals) {
    throw new ChoraleError(
      'bad_config',
      `${field} ${text}: this chain's token has ${decimals} decimals, not ${fraction.length}`,
      { field },
    )
  }
  return BigInt(whole) * 10n ** BigInt(decimals) + BigInt(fraction.padEnd(decimals, '0') || '0')
}

/** The exact amount in tokens, without trailing zeros: `100.5 TENSOR`. */
export function formatAmount(amount: bigint, token: { tokenDecimals: number; tokenSymbol: string }): string {
  return `${formatTokens(amount, token.tokenDecimals)} ${token.tokenSymbol}`
}

/** The exact amount in tokens, without trailing zeros and without the token's name. */
export function formatTokens(amount: bigint, decimals: number): string {
  const sign = amount < 0n ? '-' : ''
  const digits = (amount < 0n ? -amount : amount).toString().padStart(decimals + 1, '0')
  const whole = digits.slice(0, digits.length - decimals)
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, '')
  return `${sign}${whole}${fraction === '' ? '' : `.${fraction}`}`
}
