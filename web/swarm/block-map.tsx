import type { ServerView, SwarmState } from '../session/gateway.ts'
import { strings } from '../strings.ts'
import { shortPeer } from '../ui/format.ts'
import { serves } from './coverage.ts'

/** States by shape, so that colour is never all there is. */
export const STATE_MARKS: Readonly<Record<ServerView['state'], string>> = {
  online: '■',
  joining: '◧',
  draining: '◇',
  offline: '×',
}

/** Rows are peers, columns are blocks; a table, so that a screen reader can walk it. */
export function BlockMap(props: {
  readonly state: SwarmState
  readonly coverage: readonly number[]
  readonly weakest: readonly number[]
}) {
  const { state, coverage, weakest } = props
  const words = strings.swarm
  const blocks = coverage.map((_, block) => block)
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={words.map}>
      <table class="block-map">
        <caption class="sr-only">{words.mapNote}</caption>
        <thead>
          <tr>
            <th scope="col">{words.peer}</th>
            {blocks.map((block) => (
              <th key={block} scope="col" class={weakest.includes(block) ? 'weak' : ''}>
                {block}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {state.servers.map((server) => (
            <tr key={server.peer}>
              <th scope="row" class="mono" title={server.peer}>
                {shortPeer(server.peer)}
              </th>
              {blocks.map((block) => (
                <Cell key={block} server={server} block={block} />
              ))}
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">{words.coverage}</th>
            {coverage.map((count, block) => (
              <td key={block} class={weakest.includes(block) ? 'weak' : ''}>
                {count}
              </td>
            ))}
          </tr>
        </tfoot>
      </table>
    </div>
  )
}

function Cell({ server, block }: { readonly server: ServerView; readonly block: number }) {
  if (!serves(server, block)) {
    return (
      <td class="cell none">
        <span aria-hidden="true">·</span>
      </td>
    )
  }
  return (
    <td class={`cell ${server.state}`} title={strings.swarm.states[server.state]}>
      <span aria-hidden="true">{STATE_MARKS[server.state]}</span>
      <span class="sr-only">{strings.swarm.states[server.state]}</span>
    </td>
  )
}
