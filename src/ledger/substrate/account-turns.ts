/** What is known of an account that sends calls. */
export interface SendingAccount {
  /** Nonce of the next call; undefined = ask the chain. */
  next: number | undefined
}

/** Calls of one account are signed and handed over one after the other, so that each knows the number before it. */
export interface AccountTurns {
  /** Does `work` when all that came before for the account is done, or failed. */
  take<T>(address: string, work: (account: SendingAccount) => Promise<T>): Promise<T>
  /** The chain is asked for the next nonce of an account again; of all without one. */
  askAgain(address?: string): void
}

/** Accounts as they come. */
export function createAccountTurns(): AccountTurns {
  const accounts = new Map<string, SendingAccount & { turn: Promise<void> }>()
  return {
    take: (address, work) => {
      let account = accounts.get(address)
      if (account === undefined) {
        account = { next: undefined, turn: Promise.resolve() }
        accounts.set(address, account)
      }
      const mine = account
      const done = mine.turn.then(() => work(mine))
      mine.turn = done.then(
        () => undefined,
        () => undefined,
      )
      return done
    },
    askAgain: (address) => {
      const those = address === undefined ? accounts.values() : [accounts.get(address)]
      for (const account of those) if (account !== undefined) account.next = undefined
    },
  }
}
