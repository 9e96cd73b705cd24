import { errorMessage } from '../errors.ts'
import type { DueAccount, PassBook } from './pass-book.ts'
import type { ReportedUse } from './sponsor-accounts.ts'

export interface UseReporting {
  readonly book: Pick<PassBook, 'due'>
  /** Tells a sponsor. @returns the tokens that it has left for the client. */
  readonly tell: (sponsor: string, pass: Uint8Array, use: ReportedUse) => Promise<number>
  readonly onTrouble: (sponsor: string, reason: string) => void
}

/** How often is looked whether a sponsor must hear something: well below the time in which a slice is used. */
const LOOK_MS = 200
/** Sponsors told at once. */
const MAX_TELLING = 32

/** Tells sponsors what their clients used here, so that a quota holds on all servers together, until closed. */
export function reportUse({ book, tell, onTrouble }: UseReporting): { close(): void } {
  let telling = 0
  const report = async ({ sponsor, account, passes }: DueAccount): Promise<void> => {
    telling++
    const tokens = account.tell()
    try {
      let left = Infinity
      for (const { bytes, work } of passes) {
        for (const use of work) left = await tell(sponsor, bytes, use)
      }
      account.told(tokens, left)
    } catch (error) {
      account.untold()
      onTrouble(sponsor, errorMessage(error))
    } finally {
      telling--
    }
  }
  const timer = setInterval(() => {
    for (const due of book.due()) if (telling < MAX_TELLING) void report(due)
  }, LOOK_MS)
  return { close: () => clearInterval(timer) }
}
