import { chooseModel, swarmState } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { ModelBadge } from '../swarm/model-badge.tsx'

/** The models of the network, each with what it lacks; those of the gateway can be chosen. Nothing where there is one. */
export function ModelPicker({ onChosen }: { readonly onChosen: () => void }) {
  const state = swarmState.value
  const words = strings.models
  if (state === undefined || state.models.length < 2) return null
  return (
    <section class="model-picker" aria-label={words.title}>
      <h3>{words.title}</h3>
      <ul>
        {state.models.map((model) => (
          <li key={model.id}>
            <span>
              <span class="model-picker-name" title={model.id}>
                {model.name}
              </span>{' '}
              <ModelBadge model={model} />
            </span>
            {model.id === state.model ? (
              <span class="aside">{words.present}</span>
            ) : model.here ? (
              <button
                type="button"
                aria-label={words.choose(model.name)}
                onClick={() => {
                  onChosen()
                  void chooseModel(model.id)
                }}
              >
                {words.chooseShort}
              </button>
            ) : (
              <span class="aside">{words.elsewhere}</span>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}
