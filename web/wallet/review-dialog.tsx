import { useEffect, useState } from 'preact/hooks'
import { errorMessage } from '../../src/errors.ts'
import { formatAmount } from '../../src/ledger/amounts.ts'
import type { LedgerInfo } from '../../src/ledger/ledger.ts'
import { strings } from '../strings.ts'
import { walletStrings } from '../strings-wallet.ts'
import { Dialog } from '../ui/dialog.tsx'
import type { PlannedCall } from './plan-call.ts'
import { send } from './sending.ts'
import { type Chosen, connectedLedger } from './wallet.ts'

/** What a call does, costs and leaves, before the wallet is asked to sign it. */
export function ReviewDialog(props: {
  readonly info: LedgerInfo
  readonly account: Chosen
  readonly free: bigint
  readonly planned: PlannedCall
  readonly onClose: () => void
}) {
  const words = walletStrings
  const { info, account, free, planned, onClose } = props
  const [fee, setFee] = useState<bigint | undefined>()
  const [problem, setProblem] = useState('')
  useEffect(() => {
    const { signer } = account
    if (signer === undefined) return
    const ask = async () => setFee(await connectedLedger().fee(planned.call, signer))
    ask().catch((error: unknown) => setProblem(errorMessage(error)))
  }, [])
  const say = (amount: bigint) => formatAmount(amount, info)
  const left = fee === undefined ? undefined : free - planned.amount - fee
  const short = left !== undefined && left < 0n
  const rows: readonly (readonly [string, string])[] = [
    [words.account, account.label === '' ? account.address : `${account.label}, ${account.address}`],
    ...(planned.amount > 0n ? [[words.amount, say(planned.amount)] as const] : []),
    [words.fee, fee === undefined ? words.reading : words.atMost(say(fee))],
    [words.leaves, left === undefined ? words.reading : short ? '–' : say(left)],
    [words.chain, info.chain],
  ]
  return (
    <Dialog title={planned.title} onClose={onClose}>
      <dl class="rows">
        {rows.map(([label, text]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <ul class="notes">
        {planned.notes.map((text) => (
          <li key={text}>{text}</li>
        ))}
        <li>{words.keyStays(account.wallet ?? '')}</li>
      </ul>
      {short && (
        <p class="problem" role="alert">
          {words.tooLittle(say(free), say(planned.amount + fee!))}
        </p>
      )}
      {problem !== '' && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="row end">
        <button type="button" onClick={onClose}>
          {strings.chat.cancel}
        </button>
        <button
          type="button"
          class="primary"
          disabled={fee === undefined || short}
          onClick={() => {
            onClose()
            void send(connectedLedger(), account, planned)
          }}
        >
          {words.sign(account.wallet ?? '')}
        </button>
      </div>
    </Dialog>
  )
}
