import { formatAmount } from '../../src/ledger/amounts.ts'
import type { LedgerInfo } from '../../src/ledger/ledger.ts'
import { walletStrings } from '../strings-wallet.ts'
import { formatPercent, shortPeer } from '../ui/format.ts'
import type { Overview, Position } from './overview.ts'
import { untilBlock } from './plan-call.ts'
import { type Chosen, overviewProblem } from './wallet.ts'

/** What an account has: free, staked, delegated, on its way back. */
export function AccountPanel(props: {
  readonly info: LedgerInfo
  readonly account: Chosen
  readonly overview: Overview | undefined
}) {
  const words = walletStrings
  const { info, account, overview } = props
  return (
    <section aria-labelledby="account-title">
      <h2 id="account-title">{account.label === '' ? words.account : account.label}</h2>
      <p class="mono address">{account.address}</p>
      {account.signer === undefined && <p class="aside">{words.watchOnly}</p>}
      {overviewProblem.value !== '' && (
        <p class="problem" role="alert">
          {overviewProblem.value}
        </p>
      )}
      {overview === undefined ? (
        overviewProblem.value === '' && (
          <p class="aside" role="status">
            {words.reading}
          </p>
        )
      ) : (
        <Holdings info={info} overview={overview} />
      )}
    </section>
  )
}

function Holdings({ info, overview }: { readonly info: LedgerInfo; readonly overview: Overview }) {
  const words = walletStrings
  const { block, free, positions, delegated, unbondings } = overview
  return (
    <>
      <dl class="rows">
        <div>
          <dt>{words.free}</dt>
          <dd>
            <Amount amount={free} info={info} />
          </dd>
        </div>
        {positions.map((position) => (
          <div key={`${position.subnetId} ${position.hotkey}`}>
            <dt>{words.staked}</dt>
            <dd>
              <Amount amount={position.stake} info={info} />
              <span class="aside"> {positionText(position)}</span>
            </dd>
          </div>
        ))}
        {delegated.map(({ subnetId, subnetName, balance }) => (
          <div key={subnetId}>
            <dt>{words.delegated}</dt>
            <dd>
              <Amount amount={balance} info={info} />
              <span class="aside"> {words.toPool(subnetName, subnetId)}</span>
            </dd>
          </div>
        ))}
        {unbondings.map((unbonding) => (
          <div key={unbonding.block}>
            <dt>{words.unbonding}</dt>
            <dd>
              <Amount amount={unbonding.amount} info={info} />
              <span class="aside">
                {' '}
                {words.claimable(untilBlock(unbonding.block, block + 1, info.blockMs))}
              </span>
            </dd>
          </div>
        ))}
      </dl>
      <p class="aside">{words.atBlock(block.toLocaleString('en'))}</p>
    </>
  )
}

function positionText({ node, subnetName, subnetId }: Position): string {
  const words = walletStrings
  if (node === undefined) return words.leftOver(subnetName, subnetId)
  const where = words.inNode(node.id, subnetName, subnetId, shortPeer(node.peerId))
  const state = node.queued ? words.queued : node.class
  const reputation = words.reputation(formatPercent(Number(node.reputation / 10n ** 12n) / 1e6))
  return `${where}, ${state}, ${reputation}${node.as === 'hotkey' ? `, ${words.asHotkey}` : ''}`
}

const SHOWN_DECIMALS = 4

/** Rounded down for reading; the exact amount is the title. Summaries of calls are exact. */
function Amount({ amount, info }: { readonly amount: bigint; readonly info: LedgerInfo }) {
  const unit = 10n ** BigInt(Math.max(0, info.tokenDecimals - SHOWN_DECIMALS))
  const rounded = amount - (amount % unit)
  return (
    <span class="amount" title={formatAmount(amount, info)}>
      {rounded === amount ? '' : '≈ '}
      {formatAmount(rounded, info)}
    </span>
  )
}
