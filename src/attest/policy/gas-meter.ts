import { Trap } from './arithmetic.ts'

/** What a run may still spend: the same program on the same input ends with the same gas everywhere. */
export class GasMeter {
  readonly limit: number
  /** Below 0 once it ran out. */
  left: number

  constructor(limit: number) {
    this.limit = limit
    this.left = limit
  }

  /** @throws Trap when there is not so much left; it counts as spent. */
  spend(amount: number): void {
    this.left -= amount
    if (this.left < 0) throw new Trap(`out of gas (${this.limit})`)
  }
}
