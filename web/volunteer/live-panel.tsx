import { strings } from '../strings.ts'
import { formatBytes, formatRate } from '../ui/format.ts'
import type { Live } from './volunteer.ts'

/** Numbers of a tab that serves, once a second. */
export function LivePanel({ live }: { readonly live: Live }) {
  const words = strings.volunteer
  const { labels } = words
  const { loaded } = live
  const rows: readonly (readonly [string, string])[] = [
    [labels.sessions, String(live.sessions)],
    [labels.tokens, live.tokens.toLocaleString('en')],
    [labels.rate, words.rate(live.tokensPerSecond === 0 ? '0' : formatRate(live.tokensPerSecond))],
    [labels.speed, words.rate(formatRate(live.throughput))],
    [labels.traffic, `${formatBytes(live.bytesIn)} / ${formatBytes(live.bytesOut)}`],
    [labels.shared, live.sharedBytes === undefined ? words.notShared : formatBytes(live.sharedBytes)],
    [labels.memoryUse, `${formatBytes(loaded.weightBytes)} / ${formatBytes(loaded.kvBytes)}`],
    [labels.engine, `${loaded.engine}: ${loaded.engineDescription}`],
    [labels.why, loaded.why],
    [labels.reach, live.addrs.length > 0 ? words.relayed : words.unreached],
    [labels.peer, live.peerId],
  ]
  return (
    <section>
      <h2>{words.live}</h2>
      <dl class="rows">
        {rows.map(([label, text]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </section>
  )
}
