import { signal } from '@preact/signals'
import { useEffect, useId, useState } from 'preact/hooks'
import { errorCode, errorMessage } from '../../src/errors.ts'
import { swarmState } from '../session/tab-session.ts'
import { strings } from '../strings.ts'
import { formatBytes } from '../ui/format.ts'
import { LivePanel } from './live-panel.tsx'
import { type Plan, readBlocks } from './plan.ts'
import { type Check, runPreflight } from './preflight.ts'
import { finish, live, type Offer, pause, preview, stage, start } from './volunteer.ts'

const MEGABYTE = 1e6

/** What the user offers; kept while the tab is open. */
const offer = signal<Offer>({
  memoryBytes: 1024 * MEGABYTE,
  blocks: undefined,
  engine: 'auto',
  onlyVisible: false,
  keepAwake: false,
})

/** Lends this tab: one button, checks, limits, numbers. */
export function VolunteerPage() {
  const words = strings.volunteer
  const { kind } = stage.value
  const resting = kind === 'idle' || kind === 'failed' || kind === 'paused'
  return (
    <div class="page-scroll" tabIndex={-1}>
      <div class="column settings volunteer">
        <h1>{words.title}</h1>
        <p>{words.intro}</p>
        <section>
          <StageLine />
          <div class="row">
            {resting ? (
              <button type="button" class="primary big" onClick={() => void start(offer.value)}>
                {kind === 'paused' ? words.resume : words.start}
              </button>
            ) : (
              <button type="button" class="primary big" onClick={() => void finish()}>
                {kind === 'finishing' ? words.finishNow : words.finish}
              </button>
            )}
            {kind === 'serving' && (
              <button type="button" class="big" onClick={() => void pause(false)}>
                {words.pause}
              </button>
            )}
          </div>
          {resting && <PlanLine />}
        </section>
        {live.value !== undefined && <LivePanel live={live.value} />}
        {resting && <LimitsForm />}
        <PreflightList />
      </div>
    </div>
  )
}

function StageLine() {
  const words = strings.volunteer.stages
  const now = stage.value
  const serving = live.value
  switch (now.kind) {
    case 'failed':
      return (
        <p class="problem" role="alert">
          {now.problem}
        </p>
      )
    case 'loading': {
      const text = words.loading(formatBytes(now.loadedBytes), formatBytes(now.totalBytes), now.peers)
      return (
        <div class="stack">
          <p role="status">{text}</p>
          <progress aria-label={text} value={now.loadedBytes} max={Math.max(1, now.totalBytes)} />
        </div>
      )
    }
    case 'serving':
      return (
        <p role="status" class="stage">
          {serving !== undefined &&
            words.serving(strings.blocks(serving.span.start, serving.span.end), serving.model)}
        </p>
      )
    case 'paused':
      return <p role="status">{now.byItself ? words.hidden : words.paused}</p>
    default:
      return <p role="status">{words[now.kind]}</p>
  }
}

/** How soon a gateway that did not answer is asked again. */
const AGAIN_MS = 3_000

/** What would be served, before anything is loaded. */
function PlanLine() {
  const words = strings.volunteer
  const [plan, setPlan] = useState<Plan | undefined>()
  const [problem, setProblem] = useState('')
  const { memoryBytes, blocks } = offer.value
  const model = swarmState.value?.model
  useEffect(() => {
    let current = true
    let timer: ReturnType<typeof setTimeout> | undefined
    const look = async (): Promise<void> => {
      try {
        const found = await preview(offer.value)
        if (!current) return
        setPlan(found)
        setProblem('')
      } catch (error) {
        if (!current) return
        setProblem(errorMessage(error))
        // A limit that is too small stays so; a gateway that did not answer may do so soon.
        if (errorCode(error) !== 'capacity') timer = setTimeout(() => void look(), AGAIN_MS)
      }
    }
    setProblem('')
    void look()
    return () => {
      current = false
      clearTimeout(timer)
    }
  }, [memoryBytes, blocks, model])
  if (problem !== '') return <p class="aside">{problem}</p>
  if (plan === undefined) return <p class="aside">{words.planning}</p>
  return (
    <p class="aside">
      {words.plan(
        strings.blocks(plan.span.start, plan.span.end),
        formatBytes(plan.downloadBytes),
        formatBytes(plan.memoryBytes),
      )}
    </p>
  )
}

function LimitsForm() {
  const words = strings.volunteer
  const set = (change: Partial<Offer>) => {
    offer.value = { ...offer.value, ...change }
  }
  const { memoryBytes, engine, onlyVisible, keepAwake } = offer.value
  return (
    <section>
      <h2>{words.limits}</h2>
      <label class="field inline">
        <span>{words.memory}</span>
        <select
          value={String(memoryBytes / MEGABYTE)}
          onChange={({ currentTarget }) => set({ memoryBytes: Number(currentTarget.value) * MEGABYTE })}
        >
          {Object.entries(words.memories).map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
      <BlocksField onChange={(blocks) => set({ blocks })} />
      <label class="field inline">
        <span>{words.engine}</span>
        <select
          value={engine}
          onChange={({ currentTarget: { value } }) =>
            set({ engine: value === 'wgsl' || value === 'wasm' ? value : 'auto' })
          }
        >
          {Object.entries(words.engines).map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={onlyVisible}
          onChange={({ currentTarget }) => set({ onlyVisible: currentTarget.checked })}
        />
        <span>{words.onlyVisible}</span>
      </label>
      {'wakeLock' in navigator && (
        <label class="check">
          <input
            type="checkbox"
            checked={keepAwake}
            onChange={({ currentTarget }) => set({ keepAwake: currentTarget.checked })}
          />
          <span>{words.keepAwake}</span>
        </label>
      )}
    </section>
  )
}

function BlocksField({ onChange }: { readonly onChange: (blocks: Offer['blocks']) => void }) {
  const words = strings.volunteer
  const given = offer.value.blocks
  const [text, setText] = useState(given === undefined ? '' : `${given.start}:${given.end}`)
  const [bad, setBad] = useState(false)
  const id = useId()
  const helpId = `${id}-help`
  return (
    <div class="field">
      <label for={id}>{words.blocks}</label>
      <input
        id={id}
        type="text"
        autoComplete="off"
        value={text}
        aria-invalid={bad}
        aria-describedby={helpId}
        onInput={({ currentTarget }) => {
          setText(currentTarget.value)
          try {
            onChange(readBlocks(currentTarget.value, swarmState.value?.blocks))
            setBad(false)
          } catch {
            setBad(true)
          }
        }}
      />
      <small id={helpId}>{bad ? words.badBlocks : words.blocksHelp}</small>
    </div>
  )
}

const CHECK_MARKS = { good: '●', poor: '◐', missing: '○' } as const

function PreflightList() {
  const words = strings.volunteer
  const [checks, setChecks] = useState<readonly Check[]>([])
  const subnet = swarmState.value?.subnet
  const stakes = subnet && subnet.nodes.map(({ peerId, class: name }) => peerId + name).join()
  useEffect(() => void runPreflight(subnet).then(setChecks), [stakes])
  return (
    <section>
      <h2>{words.preflight}</h2>
      <ul class="checks">
        {checks.map(({ name, state, found, fix }) => (
          <li key={name}>
            <span class={`check-mark ${state}`} aria-hidden="true">
              {CHECK_MARKS[state]}
            </span>
            <div>
              <b>{name}</b> <span class="sr-only">{words.checkStates[state]}: </span>
              {found}
              {fix !== undefined && <p class="aside">{fix}</p>}
            </div>
          </li>
        ))}
      </ul>
    </section>
  )
}
