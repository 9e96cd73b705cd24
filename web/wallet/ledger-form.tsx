import { useState } from 'preact/hooks'
import { swarmState } from '../session/tab-session.ts'
import { walletStrings } from '../strings-wallet.ts'
import { connect, disconnect, link, recall } from './wallet.ts'

/** Which node of which ledger: the swarm's own, or one that is typed. */
export function LedgerForm() {
  const words = walletStrings
  const subnet = swarmState.value?.subnet
  const [typed, setTyped] = useState<string | undefined>()
  const url = typed ?? subnet?.url ?? recall().url
  const now = link.value
  const submit = (event: Event) => {
    event.preventDefault()
    // The swarm's ledger is known by its first block too: a node of another chain is refused.
    void connect(url, url === subnet?.url ? subnet.genesisHash : undefined)
  }
  if (now.kind === 'connected') {
    const { info } = now
    return (
      <section>
        <h2>{words.ledger}</h2>
        <dl class="rows">
          <div>
            <dt>{words.chain}</dt>
            <dd>
              {info.chain} · {info.tokenSymbol}
            </dd>
          </div>
          <div>
            <dt>{words.url}</dt>
            <dd class="mono">{now.url}</dd>
          </div>
        </dl>
        <div class="row">
          <button type="button" onClick={() => void disconnect()}>
            {words.disconnect}
          </button>
        </div>
      </section>
    )
  }
  return (
    <section>
      <h2>{words.ledger}</h2>
      <form class="stack" onSubmit={submit}>
        <div class="field">
          <label for="ledger-url">{words.url}</label>
          <input
            id="ledger-url"
            type="text"
            inputMode="url"
            autoComplete="off"
            spellcheck={false}
            aria-describedby="ledger-url-help"
            placeholder="ws://127.0.0.1:9944"
            value={url}
            onInput={({ currentTarget }) => setTyped(currentTarget.value)}
          />
          <small id="ledger-url-help">
            {subnet === undefined ? words.urlHelp : words.urlKnown(subnet.chain)}
          </small>
        </div>
        {now.kind === 'failed' && (
          <p class="problem" role="alert">
            {now.problem}
          </p>
        )}
        <div class="row">
          <button type="submit" class="primary" disabled={now.kind === 'connecting' || url.trim() === ''}>
            {now.kind === 'connecting' ? words.connecting : words.connect}
          </button>
          {now.kind === 'connecting' && (
            <span role="status" class="aside">
              {words.connectingNote}
            </span>
          )}
        </div>
      </form>
    </section>
  )
}
