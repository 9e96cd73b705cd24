import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { applySetting, defaultSettings, samplingOf } from '../../node/cli/chat/settings.ts'
import {
  askYes,
  createProgress,
  createStyle,
  formatBytes,
  formatSeconds,
  printable,
} from '../../node/cli/terminal.ts'

function screen(isTTY: boolean, columns = 40) {
  const stream = Object.assign(new PassThrough(), { isTTY, columns, text: '' })
  stream.on('data', (chunk: Buffer) => {
    stream.text += chunk.toString()
  })
  return stream
}

describe('createStyle', () => {
  it('colours a terminal, and nothing else, and nothing under NO_COLOR or TERM=dumb', () => {
    expect(createStyle(screen(true), {}).red('x')).toBe('\u001B[31mx\u001B[39m')
    expect(createStyle(screen(true), { NO_COLOR: '' }).red('x')).toBe('\u001B[31mx\u001B[39m')
    expect(createStyle(screen(true), { NO_COLOR: '1' }).red('x')).toBe('x')
    expect(createStyle(screen(true), { TERM: 'dumb' }).red('x')).toBe('x')
    expect(createStyle(screen(false), {}).red('x')).toBe('x')
  })
})

describe('printable', () => {
  it('keeps text, line feeds and tabs, replaces what steers a terminal or turns text around', () => {
    expect(printable('a\n\tß🦊日')).toBe('a\n\tß🦊日')
    expect(printable('\u001B]0;title\u0007\r\b\u009B2J\u202Eabc\u2066')).toBe(
      '\uFFFD]0;title\uFFFD\uFFFD\uFFFD\uFFFD2J\uFFFDabc\uFFFD',
    )
  })
})

describe('createProgress', () => {
  it('redraws one line on a terminal, no wider than it, and clears it', () => {
    let now = 0
    const stream = screen(true, 20)
    const progress = createProgress(stream, () => now)
    progress.update('loading', 512, 2048)
    now = 50
    progress.update('loading', 600, 2048)
    now = 200
    progress.update('loading', 2048, 2048)
    progress.end()
    stream.read()
    expect(stream.text).toBe('\r\u001B[Kloading 512 B of 2.\r\u001B[Kloading 2.0 KiB of \r\u001B[K')
  })

  it('writes plain lines now and then elsewhere, none for what is quick', () => {
    let now = 0
    const stream = screen(false)
    const quick = createProgress(stream, () => now)
    quick.update('loading', 1, 2)
    quick.update('loading', 2, 2)
    expect(stream.text).toBe('')
    const slow = createProgress(stream, () => now)
    now = 6000
    slow.update('fetching', 1024, 4096)
    now = 7000
    slow.update('fetching', 2048, 4096)
    slow.update('fetching', 4096, 4096)
    slow.end()
    expect(stream.text).toBe('fetching 1.0 KiB of 4.0 KiB 25 %\nfetching 4.0 KiB of 4.0 KiB 100 %\n')
  })
})

describe('formats and questions', () => {
  it.each([
    [512, '512 B'],
    [1536, '1.5 KiB'],
    [7_350_000, '7.0 MiB'],
    [98_362_432, '93.8 MiB'],
    [500 * 1024 ** 3, '500 GiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text)
  })

  it.each([
    [352, '0.35 s'],
    [1240, '1.2 s'],
    [12_400, '12 s'],
  ])('%d ms are %s', (ms, text) => {
    expect(formatSeconds(ms)).toBe(text)
  })

  it('a question without a terminal is answered no', async () => {
    expect(await askYes('Remove?', screen(false), screen(false))).toBe(false)
    const input = screen(true)
    const answer = askYes('Remove?', input, screen(true))
    input.write('y\n')
    expect(await answer).toBe(true)
  })
})

describe('applySetting', () => {
  it.each([
    ['temperature', '-1'],
    ['temperature', ''],
    ['temperature', 'NaN'],
    ['top-p', '1.01'],
    ['top-k', '1.5'],
    ['max-tokens', '0'],
    ['max-tokens', '1e9'],
    ['seed', '-1'],
    ['seed', '18446744073709551616'],
    ['verbose', 'maybe'],
    ['__proto__', 'x'],
  ])('refuses %s %j naming it', (name, value) => {
    const settings = defaultSettings()
    expect(() => applySetting(settings, name, value)).toThrow(
      expect.objectContaining({ code: 'bad_config', message: expect.stringContaining(name) }),
    )
    expect(settings).toEqual(defaultSettings())
  })

  it('takes at most four stop strings; an empty one clears them', () => {
    const settings = defaultSettings()
    for (const stop of ['a', 'b', 'c', 'd']) applySetting(settings, 'stop', stop)
    expect(() => applySetting(settings, 'stop', 'e')).toThrow(/at most 4/)
    applySetting(settings, 'stop', '')
    expect(settings.stop).toEqual([])
  })
})

describe('samplingOf', () => {
  it("takes the user's, then the model's, then a chat's usual values, and draws a seed", () => {
    const settings = defaultSettings()
    expect(samplingOf(settings, {})).toMatchObject({ temperature: 0.7, topP: 0.95, topK: 0 })
    expect(samplingOf(settings, { temperature: 0.2, topK: 5 })).toMatchObject({ temperature: 0.2, topK: 5 })
    applySetting(settings, 'greedy', '')
    expect(samplingOf(settings, { temperature: 0.2 }).temperature).toBe(0)
    const seeds = new Set(Array.from({ length: 20 }, () => samplingOf(settings, {}).seed))
    expect(seeds.size).toBeGreaterThan(15)
  })
})
