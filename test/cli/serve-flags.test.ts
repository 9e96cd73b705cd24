import { describe, expect, it } from 'vitest'
import { parseControl } from '../../node/cli/serve/control.ts'
import { readWanted } from '../../node/cli/serve/held-models.ts'
import { readPerModel } from '../../node/cli/serve/per-model.ts'

describe('readPerModel', () => {
  const models = ['org/tale', 'files/other', 'elsewhere/other']

  it('a value for all, and one for a model by its name or the last part of it', () => {
    const read = readPerModel('blocks', ['auto', 'tale=0:4', 'files/other=2:3'], models)
    expect(read.common).toBe('auto')
    expect([...read.named]).toEqual([
      [0, '0:4'],
      [1, '2:3'],
    ])
  })

  it.each([
    ['who=0:4', /who is not served here; there is org\/tale, files\/other/],
    ['other=0:4', /other may be files\/other or elsewhere\/other/],
    ['tale=1:2', /tale has a value already/],
    ['4:8', /given twice without a model/],
  ])('%s is refused', (text, message) => {
    expect(() => readPerModel('blocks', ['auto', 'tale=0:4', text], models)).toThrow(message)
  })
})

describe('readWanted', () => {
  const none = { blocks: [], kvTokens: [], revision: [] }

  it('one model: the flags as they always were', () => {
    const flags = { blocks: ['0:4'], kvTokens: ['1000'], revision: ['main'] }
    expect(readWanted(['tale'], flags)).toEqual([
      { reference: 'tale', revision: 'main', asked: { start: 0, end: 4 }, kvTokens: 1000 },
    ])
    expect(readWanted(['tale'], none)[0]).toMatchObject({ asked: undefined, kvTokens: 8192 })
  })

  it('several: the KV cache is split, what is named is not', () => {
    const flags = { blocks: ['a=0:4'], kvTokens: ['1000', 'c=64'], revision: ['c=v2'] }
    expect(readWanted(['a', 'b', 'c'], flags)).toEqual([
      { reference: 'a', revision: undefined, asked: { start: 0, end: 4 }, kvTokens: 320 },
      { reference: 'b', revision: undefined, asked: undefined, kvTokens: 320 },
      { reference: 'c', revision: 'v2', asked: undefined, kvTokens: 64 },
    ])
  })

  it('blocks of which model, and too many models', () => {
    expect(() => readWanted(['a', 'b'], { ...none, blocks: ['0:4'] })).toThrow(
      /of which model\? Write --blocks a=START:END --blocks b=START:END/,
    )
    expect(() =>
      readWanted(
        Array.from({ length: 9 }, (_, i) => `m${i}`),
        none,
      ),
    ).toThrow(/9 models.*at most 8/)
  })
})

describe('parseControl with several models', () => {
  it('names the model', () => {
    expect(parseControl('{"move":"4:8","model":"tale"}')).toMatchObject({ model: 'tale' })
    expect(() => parseControl('{"move":"4:8","model":7}')).toThrow(/model/)
    expect(() => parseControl('{"move":"4:8","model":""}')).toThrow(/model/)
  })
})
