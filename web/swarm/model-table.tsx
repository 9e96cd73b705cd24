import type { ModelView } from '../session/gateway.ts'
import { strings } from '../strings.ts'
import { DataTable } from './data-table.tsx'
import { ModelBadge } from './model-badge.tsx'

/** Every model of the network, a row each; a press on its name shows its map below. */
export function ModelTable(props: {
  readonly models: readonly ModelView[]
  /** Id of the one whose map is shown. */
  readonly shown: string
  readonly onShow: (id: string) => void
}) {
  const words = strings.models
  const heads = [
    words.model,
    words.state,
    words.blocks,
    words.servers,
    words.weakest,
    words.weights,
    words.revision,
  ]
  return (
    <DataTable class="servers models" label={words.title} heads={heads} hasCaption>
      {props.models.map((model) => (
        <tr key={model.id} {...(model.id === props.shown && { 'aria-current': 'true' as const })}>
          <th scope="row">
            <button
              type="button"
              class="link"
              aria-pressed={model.id === props.shown}
              title={model.id}
              onClick={() => props.onShow(model.id)}
            >
              {model.name}
            </button>
          </th>
          <td>
            <ModelBadge model={model} />
          </td>
          <td>{model.blocks}</td>
          <td>{model.servers}</td>
          <td>
            {model.weakest === null ? '–' : words.weakestBlock(model.weakest.block, model.weakest.servers)}
          </td>
          <td>{model.precision ?? '–'}</td>
          <td class="mono" title={model.revision ?? ''}>
            {model.revision?.slice(0, 7) ?? '–'}
          </td>
        </tr>
      ))}
    </DataTable>
  )
}
