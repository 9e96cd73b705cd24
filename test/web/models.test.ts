import { describe, expect, it } from 'vitest'
import { type ModelView, type ServerView, stateOfModel, type SwarmState } from '../../web/session/gateway.ts'
import { modelHealth } from '../../web/swarm/model-badge.tsx'

const server = (peer: string, start: number, end: number) =>
  ({ peer, start, end, state: 'online' }) as ServerView
const view = (id: string, more: Partial<ModelView> = {}): ModelView => ({
  id,
  name: id,
  blocks: 8,
  complete: true,
  missing: [],
  weakest: { block: 0, servers: 1 },
  servers: 1,
  sessions: 0,
  revision: null,
  precision: null,
  here: true,
  peers: [],
  ...more,
})
const short = { complete: false, missing: [{ start: 3, end: 8 }] }
const state: SwarmState = {
  model: 'first',
  blocks: 8,
  servers: [server('a', 0, 8)],
  ready: true,
  missing: [],
  models: [
    view('first'),
    view('second', { ...short, blocks: 9, peers: [server('b', 0, 3)] }),
    view('elsewhere', { here: false }),
  ],
  bootstrap: ['/ip4/127.0.0.1/tcp/1/ws'],
  drafts: [],
  subnet: undefined,
}

describe('stateOfModel', () => {
  it('puts another model of the gateway in front, and back again', () => {
    const second = stateOfModel(state, 'second')
    expect(second).toMatchObject({ model: 'second', blocks: 9, ready: false, missing: short.missing })
    expect(second.servers.map(({ peer }) => peer)).toEqual(['b'])
    expect(second.bootstrap).toEqual(state.bootstrap)
    const first = stateOfModel(second, 'first')
    expect(first).toMatchObject({ model: 'first', blocks: 8, ready: true, missing: [] })
    expect(first.servers.map(({ peer }) => peer)).toEqual(['a'])
  })

  it('stays with the gateway’s own model where the other one is not there, or none is named', () => {
    for (const id of [undefined, 'gone', 'elsewhere']) {
      expect(stateOfModel(state, id)).toMatchObject({ model: 'first', servers: state.servers })
    }
    const older = { ...state, models: [] }
    expect(stateOfModel(older, 'second')).toEqual(older)
  })
})

describe('modelHealth', () => {
  it('says complete, complete by a hair, or short of which blocks', () => {
    expect(modelHealth(view('m', { weakest: { block: 2, servers: 2 } }))).toEqual({
      kind: 'healthy',
      text: 'complete',
    })
    expect(modelHealth(view('m')).kind).toBe('thin')
    const gaps = [...short.missing, { start: 0, end: 1 }]
    expect(modelHealth(view('m', { ...short, missing: gaps }))).toEqual({
      kind: 'broken',
      text: 'short of blocks 3–7, block 0',
    })
  })
})
