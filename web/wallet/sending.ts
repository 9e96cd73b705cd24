import { signal } from '@preact/signals'
import { ChoraleError, errorCode, errorMessage } from '../../src/errors.ts'
import type { Ledger, LedgerSigner, Submitted } from '../../src/ledger/ledger.ts'
import { walletStrings } from '../strings-wallet.ts'
import type { PlannedCall } from './plan-call.ts'
import { type Chosen, refreshOverview } from './wallet.ts'

/** How far a call is on its way. */
export type SendingState =
  | { readonly kind: 'wallet' }
  | { readonly kind: 'sent' }
  | { readonly kind: 'block'; readonly block: number }
  | { readonly kind: 'final'; readonly block: number }
  | { readonly kind: 'failed'; readonly problem: string }

/** A call that was given to the wallet. */
export interface Sending {
  readonly id: number
  readonly title: string
  readonly account: string
  readonly state: SendingState
}

/** Newest first; gone with the page: the ledger remembers. */
export const sendings = signal<readonly Sending[]>([])

const MAX_SHOWN = 20
const POLL_MS = 1_000
/** Finality that takes longer is a fault of the chain. */
const FINAL_MS = 10 * 60_000

let count = 0

/** Has a call signed and sent, and follows it until it is final. Failures end in its state. */
export async function send(ledger: Ledger, account: Chosen, planned: PlannedCall): Promise<void> {
  const { signer } = account
  if (signer === undefined) throw new ChoraleError('bad_request', walletStrings.watchOnly)
  const id = ++count
  const first: Sending = { id, title: planned.title, account: account.address, state: { kind: 'wallet' } }
  sendings.value = [first, ...sendings.value].slice(0, MAX_SHOWN)
  const show = (state: SendingState) => {
    sendings.value = sendings.value.map((one) => (one.id === id ? { ...one, state } : one))
  }
  try {
    const done = await ledger.submit(
      planned.call,
      tellWhenSigned(signer, () => show({ kind: 'sent' })),
    )
    show({ kind: 'block', block: done.blockNumber })
    void refreshOverview()
    await untilFinal(ledger, done)
    show({ kind: 'final', block: done.blockNumber })
  } catch (error) {
    show({ kind: 'failed', problem: problemOf(error) })
    void refreshOverview()
  }
}

function tellWhenSigned(signer: LedgerSigner, onSigned: () => void): LedgerSigner {
  const { signPayload } = signer
  if (signPayload === undefined) return signer
  return {
    ...signer,
    signPayload: async (payload) => {
      const signature = await signPayload(payload)
      onSigned()
      return signature
    },
  }
}

/** Waits until the block of a call is final. @throws `ledger` when another block took its place. */
async function untilFinal(ledger: Ledger, { blockNumber, blockHash }: Submitted): Promise<void> {
  const deadline = Date.now() + FINAL_MS
  while (Date.now() < deadline) {
    const { finalizedNumber, finalizedHash } = await ledger.head()
    if (finalizedNumber >= blockNumber) {
      const there =
        finalizedNumber === blockNumber
          ? finalizedHash
          : await ledger.storage('System', 'BlockHash', [blockNumber], finalizedHash)
      // Old hashes are forgotten after a while: what was final then is so now.
      if (typeof there !== 'string' || /^0x0*$/.test(there) || there === blockHash) return
      throw new ChoraleError('ledger', walletStrings.reorganised(blockNumber))
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new ChoraleError('timeout', walletStrings.notFinal(blockNumber))
}

function problemOf(error: unknown): string {
  const message = errorMessage(error)
  return errorCode(error) === 'cancelled' ? walletStrings.notSigned(message) : message
}
