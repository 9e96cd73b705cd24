import { describe, expect, it } from 'vitest'
import { type MissingBlocksOptions, settleMissingBlocks } from '../../node/cli/chat/missing-blocks.ts'
import { coverModel } from '../../src/routing/model-coverage.ts'
import type { NetworkModel } from '../../src/session/network-models.ts'
import { serverRecord } from '../contract/directory.ts'
import { fakeLanguageModel } from '../api/fake-language-model.ts'

const listed = (name: string, end: number): NetworkModel => {
  const records = [serverRecord('a', 0, { modelId: `${name}@1`, start: 0, end })]
  return {
    model: { modelId: `${name}@1`, name, blockCount: 8, hiddenSize: 16 },
    records,
    ...coverModel(8, records),
  }
}

/** A model that lacks blocks 3:6 for its first `looks` looks, and somebody who answers with `answers`. */
function setup(looks: number, answers?: (string | undefined)[], more: Partial<MissingBlocksOptions> = {}) {
  const notes: string[] = []
  const waits: (string | undefined)[] = []
  let looked = 0
  let clock = 0
  const fake = fakeLanguageModel()
  const settle = () =>
    settleMissingBlocks({
      languageModel: {
        ...fake,
        readiness: async () => {
          clock += 1_000
          return looked++ < looks
            ? { ready: false, missing: [{ start: 3, end: 6 }] }
            : { ready: true, missing: [] }
        },
      },
      reference: 'org/fake',
      networkModels: async () => [listed('tests/fake', 3), listed('whole\u001b', 8), listed('half', 4)],
      bootstrap: ['/ip4/127.0.0.1/tcp/1'],
      waitMs: undefined,
      question: answers && (async () => answers.shift()),
      note: (line) => notes.push(line),
      progress: (text) => waits.push(text),
      signal: new AbortController().signal,
      now: () => clock,
      lookMs: 1,
      ...more,
    })
  return { settle, notes, waits, looked: () => looked }
}

describe('settleMissingBlocks', () => {
  it('says nothing where every block has a server, or has one after a moment', async () => {
    const { settle, notes } = setup(1)
    expect(await settle()).toEqual({ kind: 'ready' })
    expect(notes).toEqual([])
  })

  it('without a terminal: an error that names the blocks, the complete models and the way out', async () => {
    await expect(setup(99).settle()).rejects.toMatchObject({
      code: 'no_chain',
      field: '3:6',
      message:
        'no server holds blocks 3:6 of tests/fake; wait with --wait SECONDS, or serve them: chorale serve org/fake --blocks 3:6 --bootstrap /ip4/127.0.0.1/tcp/1; complete in this network: whole\uFFFD',
    })
  })

  it('--wait waits with progress and asks nobody, then fails', async () => {
    const served = setup(6, ['q'], { waitMs: 60_000 })
    expect(await served.settle()).toEqual({ kind: 'ready' })
    expect(served.notes).toEqual(['no server holds blocks 3:6 of tests/fake'])
    expect(served.waits).toContain('waiting for blocks 3:6: 2 of 59 s')
    expect(served.waits.at(-1)).toBeUndefined()
    await expect(setup(99, ['w'], { waitMs: 5_000 }).settle()).rejects.toMatchObject({ code: 'no_chain' })
  })

  it('a terminal is asked: only complete models of the network are offered', async () => {
    const { settle, notes } = setup(99, ['2', '1'])
    expect(await settle()).toMatchObject({ kind: 'other', model: { model: { name: 'whole\u001b' } } })
    expect(notes).toContain('  1  chat with whole\uFFFD instead: every block has 1 server or more')
    expect(notes.filter((line) => line.includes('half'))).toEqual([])
    expect(notes).toContain('"2" is none of these')
  })

  it('shows the command that serves the blocks and goes on when they are served', async () => {
    const { settle, notes } = setup(4, ['s', 's', 's', 's'])
    expect(await settle()).toEqual({ kind: 'ready' })
    expect(notes).toContain(
      '  in another terminal: chorale serve org/fake --blocks 3:6 --bootstrap /ip4/127.0.0.1/tcp/1',
    )
  })

  it('waits without end when told to, and leaves when told to', async () => {
    const waiting = setup(20, ['w'])
    expect(await waiting.settle()).toEqual({ kind: 'ready' })
    expect(waiting.waits.some((text) => text?.endsWith(': 15 s'))).toBe(true)
    expect(await setup(99, ['q']).settle()).toEqual({ kind: 'leave' })
    expect(await setup(99, [undefined]).settle()).toEqual({ kind: 'leave' })
  })

  it('can be interrupted', async () => {
    const controller = new AbortController()
    const { settle, looked } = setup(Number.POSITIVE_INFINITY, ['w'], { signal: controller.signal })
    const settled = settle()
    const failed = expect(settled).rejects.toMatchObject({ code: 'cancelled' })
    while (looked() < 5) await new Promise((resolve) => setTimeout(resolve, 5))
    controller.abort()
    await failed
  })

  it('says so when spans do not meet', async () => {
    const languageModel = {
      ...fakeLanguageModel(),
      readiness: async () => ({ ready: false, missing: [] }),
    }
    await expect(setup(0, undefined, { languageModel, waitMs: 0 }).settle()).rejects.toThrow(
      /every block of tests\/fake has a server, but their spans don't meet/,
    )
  })
})
