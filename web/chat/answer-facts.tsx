import { receiptFileOf, signersOf } from '../network/answer-receipts.ts'
import { strings } from '../strings.ts'
import { formatMs, formatRate, formatSeconds, shortPeer } from '../ui/format.ts'
import { Icon } from '../ui/icon.tsx'
import { saveFile } from '../ui/save-file.ts'
import type { AnswerFacts } from './chat.ts'

/** Speed, tokens, seed and, opened, the way an answer took. */
export function AnswerFactsLine({ facts }: { readonly facts: AnswerFacts }) {
  const words = strings.facts
  const parts = [
    ...(facts.completionTokens > 1 && facts.decodeMs > 0
      ? [words.speed(formatRate(((facts.completionTokens - 1) * 1000) / facts.decodeMs))]
      : []),
    words.firstToken(formatSeconds(facts.firstTokenMs)),
    words.tokens(facts.promptTokens, facts.completionTokens),
    facts.greedy ? words.greedy : words.seed(facts.seed),
  ]
  // The last receipts come after the answer: those in memory know more than what was written down with it.
  const present = facts.receipts === undefined ? [] : signersOf(facts.receipts)
  const signers = present.length > 0 ? present : (facts.signedBy ?? [])
  const peers = new Set(facts.route.map(({ peer }) => peer)).size
  return (
    <details class="facts">
      <summary>
        <span>{parts.join(' · ')}</span>
        <span class="served">
          {words.servedBy(peers, facts.failovers.length)}
          {signers.length > 0 && `, ${words.signedBy(signers.length)}`}
        </span>
      </summary>
      <ol class="route" aria-label={words.route}>
        <li>
          <b>{words.you}</b> {words.client}
        </li>
        {facts.route.map((hop) => (
          <li key={`${hop.peer}${hop.start}`}>
            <b>{strings.blocks(hop.start, hop.end)}</b>{' '}
            <span class="mono" title={hop.peer}>
              {shortPeer(hop.peer)}
            </span>{' '}
            {hop.engine}
            {hop.path && ` · ${words.path[hop.path]}`}
            {hop.rttMs !== undefined && ` · ${formatMs(hop.rttMs)}`}
          </li>
        ))}
        {facts.failovers.map((failover, index) => (
          <li key={index} class="moved">
            {strings.chat.failover(
              strings.blocks(failover.span.start, failover.span.end),
              formatSeconds(failover.recoveryMs),
            )}
          </li>
        ))}
      </ol>
      {signers.length > 0 && (
        <Receipts signers={signers} answer={present.length > 0 ? facts.receipts : undefined} />
      )}
    </details>
  )
}

/** Who signed; with `answer`, whose receipts are still here, a button that saves them. */
function Receipts(props: { readonly signers: readonly string[]; readonly answer: string | undefined }) {
  const words = strings.facts
  const { signers, answer } = props
  const save = async (id: string) => {
    saveFile(`receipts-${id.slice(0, 8)}.bin`, 'application/octet-stream', await receiptFileOf(id))
  }
  return (
    <div class="receipts">
      <p>
        <b>{words.signed}</b>{' '}
        {signers.map((peer) => (
          <span key={peer} class="mono signer" title={peer}>
            {shortPeer(peer)}
          </span>
        ))}
      </p>
      <p class="aside">{answer === undefined ? words.receiptsGone : words.signedNote}</p>
      {answer !== undefined && (
        <button type="button" class="small" onClick={() => void save(answer)}>
          <Icon name="down" />
          <span>{words.saveReceipts}</span>
        </button>
      )}
    </div>
  )
}
