import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { perplexityCommand } from '../../node/cli/perplexity.ts'
import { BUNDLED } from '../model/files.ts'

const STORY =
  'Once upon a time there was a little fox who lived at the edge of a quiet forest. Every morning she went down ' +
  'to the river to look at the water. One day she saw a small boat, and in the boat sat an old owl who had lost ' +
  'his way. The fox was kind, so she asked the owl where he wanted to go.'

let folder: string
let story: string
let printed: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-perplexity-'))
  story = join(folder, 'story.txt')
  await writeFile(story, STORY)
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})
beforeEach(() => {
  printed = ''
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
  return () => spy.mockRestore()
})

async function run(...args: string[]): Promise<{ tokens: number; perplexity: number }> {
  printed = ''
  await perplexityCommand().parseAsync([BUNDLED, ...args, '--json'], { from: 'user' })
  return JSON.parse(printed) as { tokens: number; perplexity: number }
}

describe('chorale perplexity', () => {
  it('gives every CPU engine the reference engine’s perplexity within 0.5 %', async () => {
    const reference = await run(story, '--engine', 'reference')
    expect(reference.tokens).toBeGreaterThan(50)
    for (const engine of ['wasm', 'onnx']) {
      const { perplexity, tokens } = await run(story, '--engine', engine, '--threads', '1')
      expect(tokens).toBe(reference.tokens)
      expect(Math.abs(perplexity / reference.perplexity - 1), engine).toBeLessThan(0.005)
    }
  })

  it('finds a story likelier than its words backwards', async () => {
    const backwards = join(folder, 'backwards.txt')
    await writeFile(backwards, STORY.split(' ').toReversed().join(' '))
    const engine = ['--engine', 'wasm', '--threads', '1']
    const [told, mixed] = [await run(story, ...engine), await run(backwards, ...engine)]
    expect(told.perplexity).toBeGreaterThan(1)
    expect(told.perplexity).toBeLessThan(mixed.perplexity / 2)
  })

  it('judges all tokens but the first of each window', async () => {
    const engine = ['--engine', 'wasm', '--threads', '1']
    expect(await run(story, ...engine, '--limit', '17')).toMatchObject({ tokens: 16 })
    expect(await run(story, ...engine, '--limit', '17', '--window', '8')).toMatchObject({ tokens: 14 })
  })

  it('names a file that is missing and a window that is none', async () => {
    await expect(run(join(folder, 'absent.txt'))).rejects.toMatchObject({ code: 'not_found' })
    await expect(run(story, '--window', '1')).rejects.toMatchObject({ code: 'bad_config' })
  })
})
