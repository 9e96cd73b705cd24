import type { Context } from 'hono'
import { errorMessage } from '../errors.ts'
import type { LanguageModel } from '../session/language-model.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { ApiError } from './errors.ts'

type Readiness = Awaited<ReturnType<LanguageModel['readiness']>>

/** Milliseconds a look at the servers is good for: `/health` is open to all and must not be a way to load the network. */
const FRESH_MS = 1000
const looks = new WeakMap<LanguageModel, { at: number; readiness: Promise<Readiness> }>()

/** Whether all blocks have a server, looked up at most once a second. */
export function readinessOf(api: Pick<ApiContext, 'now'>, model: LanguageModel): Promise<Readiness> {
  const known = looks.get(model)
  const at = api.now()
  if (known !== undefined && at - known.at < FRESH_MS) return known.readiness
  const readiness = model.readiness()
  looks.set(model, { at, readiness })
  return readiness
}

/**
 * `GET /health`: 200 when some model can answer.
 * @throws `ApiError` 503 naming the blocks without a server.
 */
export async function health(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const models = api.models()
  const states = await Promise.all(
    models.map((model) =>
      readinessOf(api, model).catch((error: unknown) => ({ ready: false, why: errorMessage(error) })),
    ),
  )
  if (states.some(({ ready }) => ready)) return c.json({ status: 'ok' })
  const reasons = states.map((state, i) => {
    const name = models[i]?.model.id ?? 'a model'
    if ('why' in state) return `${name}: ${state.why}`
    return `${name} lacks servers for blocks ${state.missing.map((span) => `${span.start}:${span.end}`).join(', ')}`
  })
  const message = models.length === 0 ? 'no model is loaded' : reasons.join('; ')
  throw new ApiError(503, 'unavailable_error', message, { code: 'no_chain' })
}
