import { strings } from '../strings.ts'
import { formatMs, formatRate, formatSeconds, shortPeer } from '../ui/format.ts'
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
  const peers = new Set(facts.route.map(({ peer }) => peer)).size
  return (
    <details class="facts">
      <summary>
        <span>{parts.join(' · ')}</span>
        <span class="served">{words.servedBy(peers, facts.failovers.length)}</span>
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
    </details>
  )
}
