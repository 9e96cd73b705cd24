import { walletStrings } from '../strings-wallet.ts'
import { type Sending, type SendingState, sendings } from './sending.ts'

const MARKS: Readonly<Record<SendingState['kind'], string>> = {
  wallet: '◔',
  sent: '◑',
  block: '◕',
  final: '●',
  failed: '×',
}

/** Newest calls in sight; the others one click away. */
const SHOWN = 2

/** Calls of this page, newest first, each with how far it is. */
export function SendingList() {
  const words = walletStrings
  const list = sendings.value
  return (
    <div role="status" aria-label={words.sendings}>
      {list.length > 0 && (
        <section>
          <h2>{words.sendings}</h2>
          <Sendings list={list.slice(0, SHOWN)} />
          {list.length > SHOWN && (
            <details>
              <summary>{words.earlier(list.length - SHOWN)}</summary>
              <Sendings list={list.slice(SHOWN)} />
            </details>
          )}
        </section>
      )}
    </div>
  )
}

function Sendings({ list }: { readonly list: readonly Sending[] }) {
  return (
    <ul class="sendings">
      {list.map(({ id, title, account, state }) => (
        <li key={id} class={state.kind}>
          <span class={`check-mark ${state.kind === 'failed' ? 'missing' : 'good'}`} aria-hidden="true">
            {MARKS[state.kind]}
          </span>
          <div>
            <b>{title}</b>
            <p>{stateText(state)}</p>
            <p class="aside mono address">{account}</p>
          </div>
        </li>
      ))}
    </ul>
  )
}

function stateText(state: SendingState): string {
  const { states } = walletStrings
  switch (state.kind) {
    case 'wallet':
      return states.wallet
    case 'sent':
      return states.sent
    case 'block':
      return states.block(state.block.toLocaleString('en'))
    case 'final':
      return states.final(state.block.toLocaleString('en'))
    case 'failed':
      return states.failed(state.problem)
  }
}
