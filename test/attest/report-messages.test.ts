import { describe, expect, it } from 'vitest'
import { contentHash } from '../../src/attest/evidence.ts'
import {
  encodeReportMessage,
  MAX_INLINE_REPORT_BYTES,
  parseReportMessage,
} from '../../src/attest/report-messages.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { MAX_GOSSIP_BYTES } from '../../src/swarm/gossip.ts'
import { isChoraleError } from '../../src/errors.ts'
import { mutate, seededRandom, withoutStackTraces } from '../protocol/random.ts'

describe('parseReportMessage', () => {
  const short = new Uint8Array(300).fill(1)
  const whole = new Uint8Array(MAX_INLINE_REPORT_BYTES).fill(2)
  const long = new Uint8Array(MAX_INLINE_REPORT_BYTES + 1).fill(3)

  it('a short report travels whole, a longer one by hash and length; said again it is another message', () => {
    expect(parseReportMessage(encodeReportMessage(short, 0))).toEqual({ report: short })
    expect(parseReportMessage(encodeReportMessage(long, 2))).toEqual({
      hash: contentHash(long),
      size: long.length,
    })
    expect(encodeReportMessage(short, 1)).not.toEqual(encodeReportMessage(short, 0))
    expect(parseReportMessage(encodeReportMessage(short, 1))).toEqual({ report: short })
    expect(encodeReportMessage(whole, 2 ** 31).length).toBeLessThanOrEqual(MAX_GOSSIP_BYTES)
  })

  it('names what is wrong', () => {
    const parse = (map: object) => () => parseReportMessage(encodeCbor(map))
    expect(parse({})).toThrow(/hash/)
    expect(parse({ report: new Uint8Array(0) })).toThrow(/report/)
    expect(parse({ report: long })).toThrow(/report/)
    expect(parse({ hash: new Uint8Array(31), size: 1 })).toThrow(/hash/)
    expect(parse({ hash: new Uint8Array(32), size: 200 * 1024 })).toThrow(/size/)
  })

  it('takes 10^5 broken messages as protocol errors', () => {
    const random = seededRandom(67)
    const messages = [encodeReportMessage(short, 3), encodeReportMessage(long, 0)]
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        try {
          parseReportMessage(mutate(messages[i % 2]!, random))
        } catch (error) {
          if (!isChoraleError(error) || error.code !== 'protocol') throw error
        }
      }
    })
  })
})
