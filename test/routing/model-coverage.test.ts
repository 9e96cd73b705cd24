import { describe, expect, it } from 'vitest'
import { coverModel, emptyRanges } from '../../src/routing/model-coverage.ts'
import { serverRecord } from '../contract/directory.ts'

const span = (start: number, end: number, state: 'online' | 'joining' = 'online') =>
  serverRecord(`peer-${start}-${end}`, 1000, { start, end, state })

describe('coverModel', () => {
  it('names ranges of blocks without an online server, and the weakest block', () => {
    expect(coverModel(8, [span(0, 3), span(2, 4), span(6, 7), span(4, 8, 'joining')])).toEqual({
      complete: false,
      missing: [
        { start: 4, end: 6 },
        { start: 7, end: 8 },
      ],
      perBlock: [1, 1, 2, 1, 0, 0, 1, 0],
      weakest: { block: 4, servers: 0 },
      servers: 3,
    })
  })

  it('is complete when every block has one, and never for a model without blocks', () => {
    expect(coverModel(4, [span(0, 4), span(1, 2)])).toMatchObject({
      complete: true,
      missing: [],
      weakest: { block: 0, servers: 1 },
    })
    expect(coverModel(0, [])).toMatchObject({ complete: false, weakest: undefined })
  })

  it('counts nothing beyond the model, whatever a record says', () => {
    expect(coverModel(2, [span(0, 4096)]).perBlock).toEqual([1, 1])
  })
})

describe('emptyRanges', () => {
  it('joins neighbours', () => {
    expect(emptyRanges([0, 0, 1, 0])).toEqual([
      { start: 0, end: 2 },
      { start: 3, end: 4 },
    ])
  })
})
