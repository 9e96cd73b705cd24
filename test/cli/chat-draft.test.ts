import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BUNDLED_MODEL } from '../../node/model-ports.ts'
import { runChorale } from './run-chorale.ts'
import { PROMPT } from '../web/story.ts'

const COMMON = ['--once', PROMPT, '--seed', '5', '--max-tokens', '40', '--json']

interface Shown {
  readonly ids: readonly number[]
  readonly text: string
  readonly drafts?: { laps: number; proposed: number; accepted: number; model?: { proposed: number } }
}

async function chat(args: readonly string[]): Promise<Shown> {
  const { code, out, err } = await runChorale(['chat', ...args, ...COMMON])
  expect(code, err).toBe(0)
  return JSON.parse(out) as Shown
}

describe('chorale chat --draft', () => {
  let folder: string
  let draft: string
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chorale-draft-'))
    draft = join(folder, 'four-bit')
    const { code, err } = await runChorale([
      'models',
      'quantize',
      BUNDLED_MODEL,
      '--bits',
      '4',
      '--out',
      draft,
    ])
    expect(code, err).toBe(0)
  }, 60_000)
  afterAll(() => rmSync(folder, { recursive: true }))

  it('a 4-bit draft gives the text that there is without', async () => {
    const [plain, drafted] = await Promise.all([chat(['--local']), chat(['--local', '--draft', draft])])
    expect(drafted.ids).toEqual(plain.ids)
    expect(drafted.text).toBe(plain.text)
    expect(plain.drafts).toBeUndefined()
    expect(drafted.drafts).toMatchObject({ model: {} })
  }, 60_000)

  it('none is no draft', async () => {
    expect((await chat(['--local', '--draft', 'none'])).drafts).toBeUndefined()
  })

  it('refuses what is no model before it starts anything', async () => {
    const { code, err } = await runChorale(['chat', '--draft', 'no-such-model', ...COMMON])
    expect(code).not.toBe(0)
    expect(err).toMatch(/no-such-model: no such folder/)
    expect(err).not.toContain('starting a swarm')
  })
})
