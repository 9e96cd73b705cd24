import { useEffect, useState } from 'preact/hooks'
import { errorMessage } from '../../src/errors.ts'
import { formatAmount } from '../../src/ledger/amounts.ts'
import type { LedgerInfo } from '../../src/ledger/ledger.ts'
import { browserIdentity } from '../network/tab-identity.ts'
import { swarmState } from '../session/tab-session.ts'
import { walletStrings } from '../strings-wallet.ts'
import type { Overview, Position } from './overview.ts'
import { type PlannedCall, planCall, type Wish } from './plan-call.ts'
import { ReviewDialog } from './review-dialog.tsx'
import { type Chosen, connectedLedger, openWallet } from './wallet.ts'

interface Given {
  readonly info: LedgerInfo
  readonly account: Chosen
  readonly overview: Overview
}

const KINDS = ['bond', 'unbond', 'claim', 'delegate', 'undelegate', 'register', 'remove'] as const

/** What can be done with an account: one form at a time, then a summary, then the wallet. */
export function ActionPanel(given: Given) {
  const words = walletStrings
  const [kind, setKind] = useState<Wish['kind']>('bond')
  const [planned, setPlanned] = useState<PlannedCall | undefined>()
  const [problem, setProblem] = useState('')
  const review = (wish: Wish) => {
    setProblem('')
    planCall(connectedLedger(), given.account.address, given.overview, wish)
      .then(setPlanned)
      .catch((error: unknown) => setProblem(errorMessage(error)))
  }
  return (
    <section aria-labelledby="actions-title">
      <h2 id="actions-title">{words.actions}</h2>
      <div class="row" role="group" aria-labelledby="actions-title">
        {KINDS.map((name) => (
          <button
            key={name}
            type="button"
            class="choice"
            aria-pressed={kind === name}
            onClick={() => {
              setKind(name)
              setProblem('')
            }}
          >
            {words.kinds[name]}
          </button>
        ))}
      </div>
      <p class="aside">{words.kindNotes[kind]}</p>
      <WishForm key={kind} kind={kind} given={given} onReview={review} />
      {problem !== '' && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {planned !== undefined && (
        <ReviewDialog
          info={given.info}
          account={given.account}
          free={given.overview.free}
          planned={planned}
          onClose={() => setPlanned(undefined)}
        />
      )}
    </section>
  )
}

interface FormProps {
  readonly kind: Wish['kind']
  readonly given: Given
  readonly onReview: (wish: Wish) => void
}

function WishForm({ kind, given, onReview }: FormProps) {
  const words = walletStrings
  const { overview, info, account } = given
  const { positions, subnets, delegated } = overview
  const [place, setPlace] = useState('')
  const [amount, setAmount] = useState('')
  const [peer, setPeer] = useState('')
  const [hotkey, setHotkey] = useState(
    () => openWallet.value?.accounts.find(({ address }) => address !== account.address)?.address ?? '',
  )
  useEffect(() => {
    if (kind === 'register') void browserIdentity().then(({ peerId }) => setPeer((now) => now || peerId))
  }, [])
  const places = placesOf(kind, overview)
  // The swarm's own subnet first.
  const preferred = String(swarmState.value?.subnet?.subnetId ?? '')
  const at = places.find(([key]) => key === place) ?? places.find(([key]) => key === preferred) ?? places[0]
  if (at === undefined && kind !== 'claim') return <p>{words.nothingFor[kind]}</p>
  const where = at?.[0] ?? ''
  const position = positions.find((candidate) => keyOf(candidate) === where)
  const submit = (event: Event) => {
    event.preventDefault()
    const subnetId = Number(where)
    if (kind === 'claim') onReview({ kind })
    else if (kind === 'bond' || kind === 'unbond' || kind === 'remove') {
      if (position !== undefined) onReview({ kind, position, amount })
    } else if (kind === 'register') onReview({ kind, subnetId, peerId: peer, hotkey, amount })
    else onReview({ kind, subnetId, amount })
  }
  const subnet = subnets.find(({ id }) => String(id) === where)
  const own = delegated.find(({ subnetId }) => String(subnetId) === where)
  const helps: Readonly<Record<Wish['kind'], string>> = {
    bond: words.has(formatAmount(overview.free, info)),
    unbond: words.orAll(formatAmount(position?.stake ?? 0n, info)),
    claim: '',
    delegate: words.has(formatAmount(overview.free, info)),
    undelegate: words.orAll(formatAmount(own?.balance ?? 0n, info)),
    register:
      subnet === undefined
        ? ''
        : words.stakeBetween(formatAmount(subnet.minStake, info), formatAmount(subnet.maxStake, info)),
    remove: '',
  }
  const byNode = kind === 'bond' || kind === 'unbond' || kind === 'remove'
  return (
    <form class="stack" onSubmit={submit}>
      {kind !== 'claim' && (
        <label class="field">
          <span>{byNode ? words.whichNode : words.whichSubnet}</span>
          <select value={where} onChange={({ currentTarget }) => setPlace(currentTarget.value)}>
            {places.map(([key, text]) => (
              <option key={key} value={key}>
                {text}
              </option>
            ))}
          </select>
        </label>
      )}
      {kind === 'register' && (
        <>
          <TextField id="wish-peer" label={words.peer} help={words.peerHelp} value={peer} onInput={setPeer} />
          <TextField
            id="wish-hotkey"
            label={words.hotkey}
            help={words.hotkeyHelp}
            value={hotkey}
            onInput={setHotkey}
          />
        </>
      )}
      {kind !== 'claim' && kind !== 'remove' && (
        <TextField
          id="wish-amount"
          label={words.amountIn(info.tokenSymbol)}
          help={helps[kind]}
          value={amount}
          onInput={setAmount}
          decimal
        />
      )}
      <div class="row">
        <button type="submit" class="primary">
          {words.review}
        </button>
      </div>
    </form>
  )
}

function TextField(props: {
  readonly id: string
  readonly label: string
  readonly help: string
  readonly value: string
  readonly onInput: (value: string) => void
  readonly decimal?: boolean
}) {
  const { id, label, help, value, onInput, decimal } = props
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="text"
        autoComplete="off"
        spellcheck={false}
        {...(decimal === true && { inputMode: 'decimal' as const })}
        aria-describedby={`${id}-help`}
        value={value}
        onInput={({ currentTarget }) => onInput(currentTarget.value)}
      />
      <small id={`${id}-help`}>{help}</small>
    </div>
  )
}

/** Where something may be done: nodes or subnets, each with its key. */
function placesOf(kind: Wish['kind'], overview: Overview): readonly (readonly [string, string])[] {
  const words = walletStrings
  switch (kind) {
    case 'bond':
    case 'remove':
      return overview.positions.filter(({ node }) => node !== undefined).map(nodePlace)
    case 'unbond':
      return overview.positions.map(nodePlace)
    case 'undelegate':
      return overview.delegated.map(({ subnetId, subnetName }) => [
        String(subnetId),
        words.subnetName(subnetName, subnetId),
      ])
    default:
      return overview.subnets.map(({ id, name }) => [String(id), words.subnetName(name, id)])
  }
}

function nodePlace(position: Position): readonly [string, string] {
  const words = walletStrings
  const { node, subnetName, subnetId } = position
  return [
    keyOf(position),
    node === undefined
      ? words.leftOver(subnetName, subnetId)
      : words.nodeName(node.id, words.subnetName(subnetName, subnetId)),
  ]
}

function keyOf({ subnetId, hotkey }: Position): string {
  return `${subnetId} ${hotkey}`
}
