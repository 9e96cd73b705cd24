/** JSON of ledger values: bigints as decimal text, bytes as 0x-hex; ends with a line feed. */
export function toJson(value: unknown): string {
  const text = JSON.stringify(value, (_key, one: unknown) => {
    if (typeof one === 'bigint') return one.toString()
    if (one instanceof Uint8Array) return `0x${Buffer.from(one).toString('hex')}`
    return one
  })
  return `${text}\n`
}
