import { describe, expect, it } from 'vitest'
import { DEFAULT_AGREEMENT, mayDiffer, sameScores } from '../../src/attest/agreement.ts'

const set = (text: string) => new Map(text.split(' ').map((pair) => [Number.parseInt(pair, 10), pair]))
const members = { previous: new Set([1, 2, 3, 4, 5, 6, 7, 8]), joined: new Set([20]) }
const EIGHT = '1a 2a 3a 4a 5a 6a 7a 8a'

describe('mayDiffer', () => {
  it.each([
    ['equal evidence', EIGHT, EIGHT, true],
    ['a leaver that only I saw', EIGHT, '1a 2a 3a 4a 5a 6a 7a', true],
    ['a leaver that only they saw', '1a 2a 3a 4a 5a 6a 7a', EIGHT, true],
    ['a joiner that only they saw', EIGHT, `${EIGHT} 20a`, true],
    ['two reports of one node', EIGHT, '1a 2a 3a 4a 5a 6a 7a 8b', true],
    ['a node that was never scored and did not join', EIGHT, `${EIGHT} 9a`, false],
    ['more than a quarter apart', EIGHT, '1a 2a 3a 4a 5a', false],
    ['exactly a quarter apart', EIGHT, '1a 2a 3a 4a 5a 6a', true],
  ] as const)('%s', (_, own, theirs, agree) => {
    expect(mayDiffer(set(own), set(theirs), members).agree).toBe(agree)
  })

  it('follows the rule it is given', () => {
    const own = set(EIGHT)
    const strange = set(`${EIGHT} 9a`)
    expect(mayDiffer(own, strange, members, { ...DEFAULT_AGREEMENT, differing: 'any' }).agree).toBe(true)
    const strict = { ...DEFAULT_AGREEMENT, differing: 'nobody' } as const
    expect(mayDiffer(own, set('1a 2a 3a 4a 5a 6a 7a'), members, strict)).toEqual({
      agree: false,
      reason: 'the report of node 8 differs',
    })
    expect(mayDiffer(own, own, members, strict).agree).toBe(true)
    expect(mayDiffer(new Map(), new Map(), members, strict).agree).toBe(true)
  })
})

describe('sameScores', () => {
  const own = [
    { nodeId: 1, score: 5n },
    { nodeId: 2, score: 7n },
  ]
  it.each([
    ['equal', own, undefined],
    ['equal in another order', own.toReversed(), undefined],
    ['one unit more', [own[0]!, { nodeId: 2, score: 8n }], 'node 2 is scored 8 instead of 7'],
    ['one node less', [own[0]!], 'node 2 is not scored'],
    ['one node more', [...own, { nodeId: 3, score: 1n }], 'node 3 is scored and is owed nothing'],
    ['a node twice', [...own, own[1]!], 'a node is scored twice'],
  ] as const)('%s', (_, theirs, reason) => {
    expect(sameScores(own, theirs)).toEqual(reason === undefined ? { agree: true } : { agree: false, reason })
  })
})
