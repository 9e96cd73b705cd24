import type { ErrorCode } from '../errors.ts'
import type { SessionRequest } from '../swarm/span-host.ts'

/** What a server knows when somebody asks for a session. */
export interface AdmissionState {
  readonly modelId: string
  readonly start: number
  readonly end: number
  /** `draining` servers finish what they have and take nothing new. */
  readonly draining: boolean
  readonly sessions: number
  /** Sessions the asking peer has already. */
  readonly sessionsOfPeer: number
  readonly kvTokensFree: number
}

export interface AdmissionLimits {
  readonly maxSessions: number
  /** One peer must not take all sessions. */
  readonly maxSessionsPerPeer: number
  /** Most tokens of one lease. */
  readonly maxLeaseTokens: number
}

export type AdmissionDecision =
  | { readonly admit: true }
  | { readonly admit: false; readonly code: ErrorCode; readonly message: string }

/** Whether a session is taken, and if not why, in words for the person at the other end. Pure. */
export function admitSession(
  state: AdmissionState,
  limits: AdmissionLimits,
  request: SessionRequest,
): AdmissionDecision {
  const refuse = (code: ErrorCode, message: string): AdmissionDecision => ({ admit: false, code, message })
  if (request.modelId !== state.modelId) {
    return refuse('not_found', `this server runs ${state.modelId}, not ${request.modelId}`)
  }
  if (request.start !== state.start || request.end !== state.end) {
    return refuse(
      'not_supported',
      `this server runs blocks ${state.start}:${state.end} as one, not ${request.start}:${request.end}`,
    )
  }
  if (state.draining) return refuse('capacity', 'this server is leaving and takes no new sessions')
  if (state.sessions >= limits.maxSessions) {
    return refuse('capacity', `this server has ${state.sessions} of ${limits.maxSessions} sessions`)
  }
  if (state.sessionsOfPeer >= limits.maxSessionsPerPeer) {
    return refuse(
      'capacity',
      `this peer has ${state.sessionsOfPeer} of ${limits.maxSessionsPerPeer} sessions`,
    )
  }
  if (request.maxTokens > limits.maxLeaseTokens) {
    return refuse(
      'capacity',
      `a session may hold ${limits.maxLeaseTokens} tokens here, asked were ${request.maxTokens}`,
    )
  }
  if (request.maxTokens > state.kvTokensFree) {
    return refuse(
      'capacity',
      `room for ${state.kvTokensFree} tokens is left, asked were ${request.maxTokens}`,
    )
  }
  return { admit: true }
}
