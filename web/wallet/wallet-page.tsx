import { walletStrings } from '../strings-wallet.ts'
import { AccountPanel } from './account-panel.tsx'
import { ActionPanel } from './action-panel.tsx'
import { LedgerForm } from './ledger-form.tsx'
import { SendingList } from './sending-list.tsx'
import { chosen, link, overview } from './wallet.ts'
import { WalletList } from './wallet-list.tsx'

/** Stake of one's own: a ledger, a wallet, an account; what it has, and what can be done with it. */
export function WalletPage() {
  const words = walletStrings
  const connected = link.value.kind === 'connected' ? link.value.info : undefined
  const account = chosen.value
  const found = overview.value
  return (
    <div class="page-scroll" tabIndex={-1}>
      <div class="column settings wallet">
        <h1>{words.title}</h1>
        <p>{words.intro}</p>
        <LedgerForm />
        <WalletList />
        <SendingList />
        {connected !== undefined && account !== undefined && (
          <AccountPanel info={connected} account={account} overview={found} />
        )}
        {connected !== undefined && account?.signer !== undefined && found !== undefined && (
          <ActionPanel info={connected} account={account} overview={found} />
        )}
      </div>
    </div>
  )
}
