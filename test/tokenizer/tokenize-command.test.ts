import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { SHARED, SMOLLM2, STORYTELLER } from './real-tokenizers.ts'

const MAIN = join(import.meta.dirname, '../../node/main.ts')

function chorale(args: readonly string[], input?: string) {
  const run = spawnSync(process.execPath, [MAIN, 'tokenize', ...args], {
    input: input ?? '',
    encoding: 'utf8',
    timeout: 30_000,
  })
  return { code: run.status, out: run.stdout, err: run.stderr }
}

describe('chorale tokenize', () => {
  it('prints ids, entries and the decoded text as one JSON document', () => {
    const { code, out } = chorale([STORYTELLER, '--text', '<|user|>A brave cat.', '--json'])
    expect(code).toBe(0)
    const printed = JSON.parse(out) as { ids: number[]; tokens: string[]; decoded: string }
    expect(Object.keys(printed)).toEqual(['ids', 'tokens', 'decoded'])
    expect(printed.tokens[0]).toBe('<|user|>')
    expect(printed.decoded).toBe('<|user|>A brave cat.')
    const plain = JSON.parse(
      chorale([STORYTELLER, '--text', '<|user|>A brave cat.', '--json', '--plain']).out,
    ) as typeof printed
    expect(plain.ids).not.toContain(printed.ids[0])
    expect(plain.decoded).toBe(printed.decoded)
  })

  it('takes the text from a pipe and applies the chat template', () => {
    const { code, out } = chorale([STORYTELLER, '--chat'], 'hi')
    expect(code).toBe(0)
    expect(out).toContain('"<|assistant|>"')
    expect(out.trimEnd().split('\n').at(-1)).toBe('6 tokens')
  })

  it('fails with a message and exit code for an unknown model', () => {
    const { code, out, err } = chorale(['./no-such-model', '--text', 'x', '--json'])
    expect([code, out]).toEqual([1, ''])
    expect(err).toContain('no-such-model')
  })

  it.skipIf(!existsSync(SMOLLM2))('gives the golden ids of SmolLM2 (needs ../shared)', () => {
    const golden = JSON.parse(
      readFileSync(join(SHARED, 'models/smollm2-135m-instruct-q4_1.golden.json'), 'utf8'),
    ) as { tokens: { text: string; ids: number[] }[] }
    for (const { text, ids } of golden.tokens.slice(-2)) {
      const printed = JSON.parse(chorale([SMOLLM2, '--text', text, '--json']).out) as {
        ids: number[]
        decoded: string
      }
      expect(printed.ids).toEqual(ids)
      expect(printed.decoded).toBe(text)
    }
  })
})
