import { useState } from 'preact/hooks'
import { stateOfModel, type SwarmState } from '../session/gateway.ts'
import { swarmState } from '../session/tab-session.ts'
import { useFreshState } from '../session/use-fresh-state.ts'
import type { StakedNode } from '../session/subnet-view.ts'
import { strings } from '../strings.ts'
import { formatRate, shortPeer } from '../ui/format.ts'
import { StartStatus } from '../ui/start-status.tsx'
import { BlockMap, STATE_MARKS } from './block-map.tsx'
import { ClassMark, EpochPanel } from './epoch-panel.tsx'
import { coverageOf, weakestBlocks } from './coverage.ts'
import { HealthBadge } from './health-badge.tsx'
import { DataTable } from './data-table.tsx'
import { ModelTable } from './model-table.tsx'

/** Who serves which blocks. */
export function SwarmPage() {
  const state = swarmState.value
  const words = strings.swarm
  const [chosen, setChosen] = useState<string | undefined>(undefined)
  useFreshState()
  const shown = state === undefined ? undefined : showModel(state, chosen)
  return (
    <div class="page-scroll" tabIndex={-1}>
      <div class="column wide swarm">
        <h1>{words.title}</h1>
        <p class="aside">
          {words.intro} {words.refreshed}
        </p>
        <StartStatus compact />
        {state !== undefined && state.models.length > 1 && (
          <section>
            <h2>{strings.models.title}</h2>
            <ModelTable models={state.models} shown={shown?.model ?? ''} onShow={setChosen} />
          </section>
        )}
        {shown !== undefined && <ModelSwarm state={shown} />}
        {state?.subnet !== undefined && <EpochPanel view={state.subnet} />}
      </div>
    </div>
  )
}

/** The state with any of the listed models in front: a map needs no client's part. */
function showModel(state: SwarmState, id: string | undefined): SwarmState {
  return stateOfModel({ ...state, models: state.models.map((model) => ({ ...model, here: true })) }, id)
}

function ModelSwarm({ state }: { readonly state: SwarmState }) {
  const words = strings.swarm
  const coverage = coverageOf(state)
  const weakest = weakestBlocks(coverage)
  const least = Math.min(...coverage)
  const online = state.servers.filter((server) => server.state === 'online')
  const sessions = state.servers.reduce((sum, server) => sum + server.sessions, 0)
  const slowest = Math.min(...online.map((server) => server.throughput))
  return (
    <>
      <section>
        <h2>
          {state.models.find(({ id }) => id === state.model)?.name ?? state.model}{' '}
          <HealthBadge state={state} />
        </h2>
        <p class="aside mono">{state.model}</p>
        <p>
          {words.summary(online.length, state.blocks, least)}
          {weakest.length > 0 && ` ${words.weakest(weakest, least)}`}
        </p>
        {online.length > 0 && <p class="aside">{words.totals(sessions, formatRate(slowest))}</p>}
      </section>
      {state.servers.length === 0 ? (
        <p>{words.none}</p>
      ) : (
        <>
          <section>
            <h2>{words.map}</h2>
            <BlockMap state={state} coverage={coverage} weakest={weakest} />
            <ul class="legend" aria-label={words.legend}>
              {(['online', 'joining', 'draining'] as const).map((name) => (
                <li key={name}>
                  <span class={`mark ${name}`} aria-hidden="true">
                    {STATE_MARKS[name]}
                  </span>
                  {words.states[name]}
                </li>
              ))}
            </ul>
          </section>
          <section>
            <h2>{words.table}</h2>
            <ServerTable state={state} />
          </section>
        </>
      )}
    </>
  )
}

function ServerTable({ state }: { readonly state: SwarmState }) {
  const words = strings.swarm
  const { subnet } = state
  const nodes = new Map(subnet?.nodes.map((node) => [node.peerId, node]))
  const heads = [
    words.peer,
    words.blocks,
    words.state,
    words.engine,
    words.speed,
    words.sessions,
    words.room,
    words.version,
    ...(subnet === undefined ? [] : [words.staked]),
  ]
  return (
    <DataTable class="servers" label={words.table} heads={heads}>
      {state.servers.map((server) => (
        <tr key={server.peer}>
          <th scope="row" class="mono" title={server.peer}>
            {shortPeer(server.peer)}
          </th>
          <td>
            {server.start}–{server.end - 1}
          </td>
          <td>
            <span class={`mark ${server.state}`} aria-hidden="true">
              {STATE_MARKS[server.state]}
            </span>{' '}
            {words.states[server.state]}
          </td>
          <td>{server.engine}</td>
          <td>{formatRate(server.throughput)}</td>
          <td>{server.sessions}</td>
          <td>{server.freeKvTokens}</td>
          <td>{server.version}</td>
          {subnet !== undefined && (
            <td>
              <StakeCell node={nodes.get(server.peer)} token={subnet.token} />
            </td>
          )}
        </tr>
      ))}
    </DataTable>
  )
}

/** The ledger's word on a server. */
function StakeCell({ node, token }: { readonly node: StakedNode | undefined; readonly token: string }) {
  if (node === undefined) return <>{strings.swarm.unstaked}</>
  return (
    <>
      <ClassMark name={node.class} /> · {node.stake} {token}
    </>
  )
}
