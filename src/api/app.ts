import { Hono, type Context } from 'hono'
import { cors } from 'hono/cors'
import { silentLogger, type Logger } from '../log.ts'
import { createMetrics, type Metrics } from '../metrics.ts'
import type { Model } from '../model/model.ts'
import type { LanguageModel } from '../session/language-model.ts'
import type { NetworkModel } from '../session/network-models.ts'
import { checkLoopbackHost, checkOrigin, createKeyCheck } from './access.ts'
import { createAdmission } from './admission.ts'
import { createApiMetrics } from './api-metrics.ts'
import { chatCompletions } from './chat.ts'
import { sendBlock, sendClientBlob, showBlockPart, showClientPart } from './model-parts.ts'
import { completions } from './completions.ts'
import { logFailure, type ApiContext, type ApiEnv } from './context.ts'
import { ApiError, describeError } from './errors.ts'
import { health } from './health.ts'
import { DEFAULT_LIMITS, type ApiLimits } from './limits.ts'
import { listModels, showModel } from './models.ts'
import { requestIdOf } from './request-id.ts'
import { createStateEvents } from './state-events.ts'
import { detokenize, tokenize } from './tokenize.ts'

export interface AppOptions {
  /** The models served now; asked at every request. */
  readonly models: () => readonly LanguageModel[]
  readonly version: string
  /** Keys of which a caller must send one; none = everybody may come. */
  readonly apiKeys?: readonly string[]
  readonly limits?: Partial<ApiLimits>
  /** Set when bound to loopback: refuses Host headers that are not, against DNS rebinding. */
  readonly loopbackOnly?: boolean
  /** Origins whose pages may use the gateway, or `*`. Default: none but its own. */
  readonly corsOrigins?: readonly string[]
  readonly log?: Logger
  readonly metrics?: Metrics
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  /** What `GET /api/v1/state` gives, for dashboards. */
  readonly swarmState?: () => Promise<unknown>
  /** Every model of the network, served here or not; asked at every look at the list. */
  readonly networkModels?: () => Promise<readonly NetworkModel[]>
  /** Draft models that pages may fetch whole and run themselves. */
  readonly drafts?: () => readonly Model[]
  /** Whether pages may fetch weights here (default true); otherwise they take them from peers. */
  readonly givesWeights?: boolean
}

/** Paths that tell nothing but whether to send work here: open without a key, for probes. */
const OPEN_PATHS = new Set(['/health', '/healthz', '/livez'])

/** The OpenAI-compatible HTTP API over models that are already assembled. Fetch-standard: any server can run it. */
export function createApp(options: AppOptions): Hono<ApiEnv> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const registry = options.metrics ?? createMetrics()
  const metrics = createApiMetrics(registry)
  const now = options.now ?? Date.now
  const api: ApiContext = {
    models: options.models,
    ...(options.networkModels && { networkModels: options.networkModels }),
    ...(options.drafts && { drafts: options.drafts }),
    ...(options.givesWeights !== undefined && { givesWeights: options.givesWeights }),
    version: options.version,
    limits,
    metrics,
    now,
    log: options.log ?? silentLogger,
    startedAt: now(),
    admission: createAdmission(limits, (running, waiting) => {
      metrics.running.set(running)
      metrics.waiting.set(waiting)
    }),
  }
  const app = new Hono<ApiEnv>()
  guard(app, api, options)

  app.post('/v1/chat/completions', (c) => chatCompletions(api, c))
  app.post('/v1/completions', (c) => completions(api, c))
  app.post('/v1/tokenize', (c) => tokenize(api, c))
  app.post('/v1/detokenize', (c) => detokenize(api, c))
  app.get('/v1/models', (c) => listModels(api, c))
  app.get('/v1/models/*', (c) => showModel(api, c))
  app.get('/health', (c) => health(api, c))
  app.get('/healthz', (c) => health(api, c))
  app.get('/livez', (c) => c.json({ status: 'ok' }))
  app.get('/metrics', (c) =>
    c.text(registry.render(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
  )
  const state = async (): Promise<unknown> =>
    (await options.swarmState?.()) ?? { models: api.models().map((model) => model.model.id) }
  const events = createStateEvents(api, state)
  app.get('/api/v1/state', async (c) => c.json(await state()))
  app.get('/api/v1/events', (c) => events.listen(c))
  app.get('/api/v1/client/:model', (c) => showClientPart(api, c))
  app.get('/api/v1/client/:model/:blob', (c) => sendClientBlob(api, c))
  app.get('/api/v1/blocks/:model/:block', (c) => showBlockPart(api, c))
  app.get('/api/v1/blocks/:model/:block/bytes', (c) => sendBlock(api, c))
  app.notFound((c) =>
    fail(c, api, new ApiError(404, 'not_found_error', `there is no ${c.req.method} ${c.req.path} here`)),
  )
  app.onError((error, c) => fail(c, api, error))
  return app
}

/** Request ids, counts, and who may call at all, before any endpoint. */
function guard(app: Hono<ApiEnv>, api: ApiContext, options: AppOptions): void {
  const checkKey = createKeyCheck(options.apiKeys ?? [])
  const origins = options.corsOrigins ?? []
  app.use(async (c, next) => {
    const requestId = requestIdOf(c.req.header('x-request-id'))
    c.set('requestId', requestId)
    const startedAt = api.now()
    await next()
    c.header('x-request-id', requestId)
    const route =
      ROUTES.find((known) => c.req.path === known || c.req.path.startsWith(`${known}/`)) ?? 'other'
    const status = c.res.status
    api.metrics.httpRequests.inc({ route, status: String(status) })
    api.log.debug('request', { requestId, method: c.req.method, route, status, ms: api.now() - startedAt })
  })
  app.use(async (c, next) => {
    const host = c.req.header('host') ?? new URL(c.req.url).host
    if (options.loopbackOnly === true) checkLoopbackHost(host)
    checkOrigin(c.req.header('origin'), host, origins)
    await next()
  })
  if (origins.length > 0) {
    app.use(cors({ origin: [...origins], exposeHeaders: ['x-request-id', 'retry-after'], maxAge: 600 }))
  }
  app.use(async (c, next) => {
    if (!OPEN_PATHS.has(c.req.path)) checkKey(c.req.header('authorization'))
    await next()
  })
}

/** Routes as metrics name them; a caller's own paths never become labels. */
const ROUTES = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/tokenize',
  '/v1/detokenize',
  '/v1/models',
  '/health',
  '/healthz',
  '/livez',
  '/metrics',
  '/api/v1/state',
  '/api/v1/events',
  '/api/v1/client',
  '/api/v1/blocks',
] as const

function fail(c: Context<ApiEnv>, api: ApiContext, error: unknown): Response {
  const requestId = c.get('requestId')
  const { status, body, headers, isBug } = describeError(error, requestId)
  logFailure(api, error, requestId, isBug)
  return Response.json(body, { status, headers })
}
