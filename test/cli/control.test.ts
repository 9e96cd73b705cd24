import { describe, expect, it } from 'vitest'
import { parseControl } from '../../node/cli/serve/control.ts'

describe('parseControl', () => {
  it('reads a move, with overlap unless it says no', () => {
    expect(parseControl('{"move":"4:8"}')).toEqual({
      kind: 'move',
      span: { start: 4, end: 8 },
      overlap: true,
    })
    expect(parseControl('{"move":"0:2","overlap":false}')).toMatchObject({ overlap: false })
  })

  it.each([
    '',
    '[]',
    'null',
    '{"move":"8:4"}',
    '{"move":"auto"}',
    '{"move":4}',
    '{"move":"0:4","overlap":1}',
    '{',
  ])('refuses %s and says what is known', (line) => {
    expect(() => parseControl(line)).toThrow(/command|START/)
  })

  it('reads no endless line', () => {
    expect(() => parseControl('x'.repeat(5_000))).toThrow(/5000 characters/)
  })
})
