import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isChoraleError } from '../../src/errors.ts'
import {
  DEFAULT_SUBNET_PARAMETERS,
  encodeSubnetParameters,
  parseSubnetParameters,
  type SubnetParameters,
} from '../../src/ledger/subnet-parameters.ts'

describe('parseSubnetParameters', () => {
  it('reads nothing and free text as the defaults', () => {
    for (const misc of ['', 'a subnet of story tellers', '{}']) {
      expect(parseSubnetParameters(misc)).toEqual(DEFAULT_SUBNET_PARAMETERS)
    }
  })

  it('reads back what encodeSubnetParameters wrote, in no more than what differs', () => {
    const changed: SubnetParameters = {
      ...DEFAULT_SUBNET_PARAMETERS,
      minClass: { ...DEFAULT_SUBNET_PARAMETERS.minClass, infer: 'Validator' },
      minStake: { serve: 5_000_000_000_000_000_000n },
      graceMs: 0,
      rate: {
        ...DEFAULT_SUBNET_PARAMETERS.rate,
        sessionsPerMinute: { base: 5, max: 7 },
      },
      epoch: { proposeFrom: 100, proposeUntil: 300, attestUntil: 300, attestTries: 1 },
      policy: { sha256: 'ab'.repeat(32), gas: 1_000, pages: 2 },
      accountants: 0,
    }
    expect(parseSubnetParameters(encodeSubnetParameters(changed))).toEqual(changed)
    expect(encodeSubnetParameters(DEFAULT_SUBNET_PARAMETERS)).toBe('{}')
    expect(encodeSubnetParameters({ ...DEFAULT_SUBNET_PARAMETERS, graceMs: 1 })).toBe('{"graceMs":1}')
  })

  it('ignores unknown fields', () => {
    const misc = '{"chat":{"color":1},"graceMs":5,"score":{"beauty":1}}'
    expect(parseSubnetParameters(misc)).toEqual({ ...DEFAULT_SUBNET_PARAMETERS, graceMs: 5 })
    expect(parseSubnetParameters('{"__proto__":{"graceMs":5}}')).toEqual(DEFAULT_SUBNET_PARAMETERS)
  })

  it.each([
    ['graceMs', '{"graceMs":-1}'],
    ['graceMs', '{"graceMs":"5"}'],
    ['receiptTokens', '{"receiptTokens":0}'],
    ['minClass.serve', '{"minClass":{"serve":"King"}}'],
    ['minClass', '{"minClass":[]}'],
    ['minStake.infer', '{"minStake":{"infer":"1.5"}}'],
    ['minStake.infer', '{"minStake":{"infer":-4}}'],
    ['rate.sessionsPerMinute.max', '{"rate":{"sessionsPerMinute":{"base":60,"max":6}}}'],
    ['rate.messagesPerSecond', '{"rate":{"messagesPerSecond":9}}'],
    ['epoch', '{"epoch":{"proposeFrom":500}}'],
    ['epoch.attestTries', '{"epoch":{"attestTries":1e9}}'],
    ['score', '{"score":{"blocks":0,"work":0,"uptime":0,"audits":0}}'],
    ['score.work', '{"score":{"work":1.5}}'],
    ['policy.sha256', '{"policy":{"sha256":"AB","gas":1,"pages":1}}'],
    ['policy.gas', `{"policy":{"sha256":"${'ab'.repeat(32)}","pages":1}}`],
    ['accountants', '{"accountants":65}'],
    ['misc', '{"graceMs":'],
    ['misc', `{"x":"${'y'.repeat(20_000)}"}`],
  ])('names %s when it is out of bounds: %s', (field, misc) => {
    expect(() => parseSubnetParameters(misc)).toThrow(
      expect.objectContaining({ code: 'ledger', field, message: expect.stringContaining(field) }),
    )
  })

  it('reads or refuses any JSON', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 3 }),
        fc.constantFrom('', 'rate', 'epoch', 'minClass', 'policy'),
        (json, name) => {
          try {
            parseSubnetParameters(name === '' ? json : `{"${name}":${json}}`)
          } catch (error) {
            expect(isChoraleError(error) && error.code === 'ledger').toBe(true)
          }
        },
      ),
      { numRuns: 20_000 },
    )
  })
})
