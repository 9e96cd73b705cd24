import type { Metrics } from '../metrics.ts'

/** What the gateway counts. Names parallel vLLM's, so that its dashboards port by a change of prefix. */
export type ApiMetrics = ReturnType<typeof createApiMetrics>

const SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Registers the gateway's metrics. No label takes a caller's text or a peer id. */
export function createApiMetrics(metrics: Metrics) {
  return {
    promptTokens: metrics.counter('swarm_prompt_tokens_total', 'Prompt tokens processed.'),
    generationTokens: metrics.counter('swarm_generation_tokens_total', 'Tokens generated.'),
    timeToFirstToken: metrics.histogram(
      'swarm_time_to_first_token_seconds',
      'From the request to its first token, waiting included.',
      SECONDS,
    ),
    interTokenLatency: metrics.histogram(
      'swarm_inter_token_latency_seconds',
      'Between two tokens of an answer.',
      [0.005, 0.01, 0.025, ...SECONDS],
    ),
    requestLatency: metrics.histogram(
      'swarm_e2e_request_latency_seconds',
      'From the request to the end of its answer.',
      [...SECONDS, 30, 60, 120, 300],
    ),
    running: metrics.gauge('swarm_requests_running', 'Answers being computed.'),
    waiting: metrics.gauge('swarm_requests_waiting', 'Requests waiting for a place.'),
    success: metrics.counter('swarm_request_success_total', 'Answers that ended.', ['finish_reason']),
    failovers: metrics.counter('swarm_failovers_total', 'Servers replaced during an answer.'),
    httpRequests: metrics.counter('swarm_http_requests_total', 'HTTP requests by route and status.', [
      'route',
      'status',
    ]),
  }
}
