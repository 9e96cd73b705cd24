import { useState } from 'preact/hooks'
import { injectedWallets } from '../../src/ledger/substrate/injected.ts'
import { walletStrings } from '../strings-wallet.ts'
import {
  chooseAccount,
  chooseWallet,
  chosen,
  fitsLink,
  link,
  openWallet,
  recall,
  walletProblem,
  watchAccount,
} from './wallet.ts'

/** One wallet of those this browser has, then one of its accounts; or an address to look at. */
export function WalletList() {
  const words = walletStrings
  const [wallets, setWallets] = useState(() => injectedWallets(found()))
  const open = openWallet.value
  const last = recall().wallet
  return (
    <section>
      <h2>{words.wallet}</h2>
      <p class="aside">{words.walletNote}</p>
      {wallets.length === 0 ? (
        <p>{words.noWallet}</p>
      ) : (
        <ul class="choices" aria-label={words.wallets}>
          {wallets.map((wallet) => (
            <li key={wallet.name}>
              <button
                type="button"
                aria-pressed={open?.name === wallet.name}
                onClick={() => void chooseWallet(wallet)}
              >
                {wallet.name} <span class="aside">{wallet.version}</span>
                {open === undefined && last === wallet.name && (
                  <span class="badge tag">{words.lastUsed}</span>
                )}
              </button>
            </li>
          ))}
        </ul>
      )}
      {walletProblem.value !== '' && (
        <p class="problem" role="alert">
          {walletProblem.value}
        </p>
      )}
      {open !== undefined && <AccountChoice />}
      <div class="row">
        <button type="button" class="link" onClick={() => setWallets(injectedWallets(found()))}>
          {words.lookAgain}
        </button>
      </div>
      <WatchForm />
    </section>
  )
}

/** What extensions put on the page. */
function found(): unknown {
  return (globalThis as { injectedWeb3?: unknown }).injectedWeb3
}

function AccountChoice() {
  const words = walletStrings
  const accounts = openWallet.value?.accounts ?? []
  // Read so that the choice follows the chain.
  const connected = link.value.kind === 'connected'
  if (accounts.length === 0) return <p>{words.noAccounts}</p>
  return (
    <fieldset class="choices">
      <legend>{words.account}</legend>
      {accounts.map((account) => {
        const fits = !connected || fitsLink(account)
        return (
          <label key={account.address} class="check">
            <input
              type="radio"
              name="wallet-account"
              checked={chosen.value?.address === account.address && chosen.value.signer !== undefined}
              disabled={!fits}
              onChange={() => void chooseAccount(account)}
            />
            <span>
              {account.label === '' ? words.unnamed : account.label}{' '}
              <span class="mono address">{account.address}</span>
              {!fits && <span class="aside"> {words.otherKind(account.kind)}</span>}
            </span>
          </label>
        )
      })}
    </fieldset>
  )
}

function WatchForm() {
  const words = walletStrings
  const [address, setAddress] = useState('')
  return (
    <details>
      <summary>{words.watch}</summary>
      <form
        class="stack watch"
        onSubmit={(event) => {
          event.preventDefault()
          void watchAccount(address)
        }}
      >
        <div class="field">
          <label for="watch-address">{words.address}</label>
          <input
            id="watch-address"
            type="text"
            autoComplete="off"
            spellcheck={false}
            aria-describedby="watch-help"
            value={address}
            onInput={({ currentTarget }) => setAddress(currentTarget.value)}
          />
          <small id="watch-help">{words.watchHelp}</small>
        </div>
        <div class="row">
          <button type="submit" disabled={address.trim() === ''}>
            {words.watchButton}
          </button>
        </div>
      </form>
    </details>
  )
}
