import type { StakedNode, SubnetView } from '../session/subnet-view.ts'
import { strings } from '../strings.ts'
import { DataTable } from './data-table.tsx'
import { formatPercent, shortPeer } from '../ui/format.ts'

/** Classes by shape as well as by word. */
const CLASS_MARKS: Readonly<Record<string, string>> = {
  Registered: '○',
  Idle: '◔',
  Included: '◑',
  Validator: '●',
}

/** The subnet's epoch on its ledger: who is elected, what was proposed and attested, who has which stake. */
export function EpochPanel({ view }: { readonly view: SubnetView }) {
  const words = strings.epoch
  const percent = formatPercent(view.progress)
  const elected = view.nodes.find(({ peerId }) => peerId === view.elected)
  const rows: readonly (readonly [string, string])[] = [
    [words.ledger, words.block(view.chain, view.block.toLocaleString('en'))],
    [words.subnet, words.subnetState(view.name, view.subnetId, view.state)],
    [
      words.elected,
      view.elected === undefined
        ? words.nobody
        : words.electedNode(shortPeer(view.elected), elected === undefined ? '' : String(elected.id)),
    ],
    [words.now, view.proposed ? words.proposed(formatPercent(view.attestation ?? 0)) : words.notProposed],
    [
      words.last,
      view.lastAttestation === undefined
        ? words.nothing
        : words.attested(formatPercent(view.lastAttestation)),
    ],
  ]
  return (
    <section class="epoch" aria-labelledby="epoch-title">
      <h2 id="epoch-title">{words.title(view.epoch.toLocaleString('en'))}</h2>
      <div class="epoch-progress">
        <progress aria-label={words.progress(percent)} value={view.progress} max={1} />
        <span class="aside" aria-hidden="true">
          {words.over(percent)}
        </span>
      </div>
      <dl class="rows">
        {rows.map(([label, text]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <NodeTable view={view} />
    </section>
  )
}

function NodeTable({ view }: { readonly view: SubnetView }) {
  const words = strings.epoch
  const heads = [words.node, strings.swarm.peer, words.class, words.stake, words.reputation]
  if (view.nodes.length === 0) return <p>{words.noNodes}</p>
  return (
    <DataTable class="servers" label={words.nodes} heads={heads} hasCaption>
      {view.nodes.map((node) => (
        <NodeRow key={node.id} node={node} view={view} />
      ))}
    </DataTable>
  )
}

function NodeRow({ node, view }: { readonly node: StakedNode; readonly view: SubnetView }) {
  return (
    <tr>
      <th scope="row">{node.id}</th>
      <td>
        <span class="mono" title={node.peerId}>
          {shortPeer(node.peerId)}
        </span>
        {node.peerId === view.elected && <span class="badge tag">{strings.epoch.electedTag}</span>}
      </td>
      <td>
        <ClassMark name={node.class} />
      </td>
      <td>
        {node.stake} {view.token}
      </td>
      <td>{formatPercent(node.reputation)}</td>
    </tr>
  )
}

/** A node's class in a mark and its word. */
export function ClassMark({ name }: { readonly name: string }) {
  return (
    <>
      <span class="mark online" aria-hidden="true">
        {CLASS_MARKS[name] ?? '·'}
      </span>{' '}
      {name}
    </>
  )
}
