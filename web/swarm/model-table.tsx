import type { ModelView } from '../session/gateway.ts'
import { strings } from '../strings.ts'
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
    <div class="table-scroll" tabIndex={0} role="region" aria-label={words.title}>
      <table class="servers models">
        <caption class="sr-only">{words.title}</caption>
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
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
                {model.weakest === null
                  ? '–'
                  : words.weakestBlock(model.weakest.block, model.weakest.servers)}
              </td>
              <td>{model.precision ?? '–'}</td>
              <td class="mono" title={model.revision ?? ''}>
                {model.revision?.slice(0, 7) ?? '–'}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
