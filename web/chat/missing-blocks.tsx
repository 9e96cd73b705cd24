import { chooseModel, modelName, phase, swarmState, waitsForBlocks } from '../session/tab-session.ts'
import { useFreshState } from '../session/use-fresh-state.ts'
import { strings } from '../strings.ts'
import { coverageOf, uncovered } from '../swarm/coverage.ts'
import { hrefOf } from '../ui/route.ts'

/** Complete models offered at once: more would hide the message box. */
const MAX_OFFERED = 3

/** Where the model is short of blocks: which, and what one can do about it. */
export function MissingBlocks() {
  const state = swarmState.value
  const gaps = state === undefined || phase.value.kind !== 'ready' ? [] : uncovered(coverageOf(state))
  const short = gaps.length > 0
  const words = strings.missing
  // While messages wait the whole app looks.
  useFreshState(short && !waitsForBlocks.value)
  if (state === undefined || !short) return null
  const blocks = gaps.map(({ start, end }) => strings.blocks(start, end)).join(', ')
  const others = state.models.filter(({ complete, here, id }) => complete && here && id !== state.model)
  return (
    <section class="missing-blocks" aria-label={words.label}>
      <p role="status">
        <strong>{words.what(blocks, modelName.value)}</strong>{' '}
        {waitsForBlocks.value ? words.waiting : words.choose}
      </p>
      <div class="row">
        <button type="button" onClick={() => (waitsForBlocks.value = !waitsForBlocks.value)}>
          {waitsForBlocks.value ? words.stopWaiting : words.wait}
        </button>
        {others.slice(0, MAX_OFFERED).map(({ id, name }) => (
          <button key={id} type="button" onClick={() => void chooseModel(id)}>
            {words.other(name)}
          </button>
        ))}
        <a class="button" href={hrefOf('volunteer')}>
          {words.lend}
        </a>
      </div>
    </section>
  )
}
