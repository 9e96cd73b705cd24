import { describe, expect, it } from 'vitest'
import { admitSession, type AdmissionState } from '../../src/server/admission.ts'

const STATE: AdmissionState = {
  modelId: 'm@1',
  start: 2,
  end: 6,
  draining: false,
  sessions: 3,
  sessionsOfPeer: 1,
  kvTokensFree: 1000,
}
const LIMITS = { maxSessions: 4, maxSessionsPerPeer: 2, maxLeaseTokens: 800 }
const REQUEST = { modelId: 'm@1', start: 2, end: 6, maxTokens: 800, peerId: 'p' }

describe('admitSession', () => {
  it('admits what fits all limits exactly', () => {
    expect(admitSession(STATE, LIMITS, REQUEST)).toEqual({ admit: true })
  })

  it.each([
    ['another model', {}, { modelId: 'x@1' }, 'not_found', /runs m@1, not x@1/],
    ['part of the span', {}, { end: 5 }, 'not_supported', /blocks 2:6 as one, not 2:5/],
    ['while it leaves', { draining: true }, {}, 'capacity', /leaving/],
    ['a session too many', { sessions: 4 }, {}, 'capacity', /4 of 4 sessions/],
    ['a session too many of one peer', { sessionsOfPeer: 2 }, {}, 'capacity', /2 of 2 sessions/],
    [
      'a lease over the limit',
      {},
      { maxTokens: 801 },
      'capacity',
      /may hold 800 tokens here, asked were 801/,
    ],
    ['a lease over what is free', { kvTokensFree: 799 }, {}, 'capacity', /room for 799 tokens is left/],
  ])('refuses %s with the reason', (_, state, request, code, message) => {
    const decision = admitSession({ ...STATE, ...state }, LIMITS, { ...REQUEST, ...request })
    expect(decision).toMatchObject({ admit: false, code })
    expect(decision.admit ? '' : decision.message).toMatch(message)
  })
})
