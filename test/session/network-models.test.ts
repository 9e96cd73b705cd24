import { describe, expect, it } from 'vitest'
import type { ModelRecord, ServerRecord } from '../../src/routing/snapshot.ts'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import { listNetworkModels, MAX_LISTED_MODELS, watchNetworkModels } from '../../src/session/network-models.ts'
import { serverRecord } from '../contract/directory.ts'

const NOW = 1_800_000_000_000
const modelOf = (name: string, blockCount = 4): ModelRecord => ({
  modelId: `${name}@1`,
  name,
  blockCount,
  hiddenSize: 64,
})

function network() {
  const directory = memoryDirectory(memoryDirectoryState(), 'me', () => NOW)
  const announce = (name: string, peerId: string, changes: Partial<ServerRecord> = {}) => {
    const model = modelOf(name)
    return directory.announce(serverRecord(peerId, NOW, { modelId: model.modelId, ...changes }), model)
  }
  return { directory, announce }
}

describe('listNetworkModels', () => {
  it('lists models that nobody named: own ones first, then complete ones, with what is missing', async () => {
    const { directory, announce } = network()
    await announce('whole', 'a', { start: 0, end: 4 })
    await announce('half', 'a', { start: 0, end: 2 })
    await announce('half', 'b', { start: 0, end: 2 })
    const list = await listNetworkModels(directory, { own: [modelOf('unserved')] })
    expect(
      list.map(({ model, complete, missing, servers }) => [model.name, complete, missing, servers]),
    ).toEqual([
      ['unserved', false, [{ start: 0, end: 4 }], 0],
      ['whole', true, [], 1],
      ['half', false, [{ start: 2, end: 4 }], 2],
    ])
  })

  it('two precisions of one name are two entries', async () => {
    const { directory } = network()
    for (const precision of ['bf16', 'q4_0']) {
      const model = { ...modelOf('tale'), modelId: `tale@${precision}`, precision }
      await directory.announce(serverRecord('a', NOW, { modelId: model.modelId }), model)
    }
    const list = await listNetworkModels(directory)
    expect(list.map(({ model }) => model.precision)).toEqual(['bf16', 'q4_0'])
  })

  it('is bounded, and keeps the own models when others flood the directory', async () => {
    const { directory, announce } = network()
    for (let i = 0; i < 300; i++) await announce(`flood-${i}`, `peer-${i}`)
    const list = await listNetworkModels(directory, { own: [modelOf('mine')] })
    expect(list).toHaveLength(MAX_LISTED_MODELS)
    expect(list[0]!.model.name).toBe('mine')
  })
})

describe('watchNetworkModels', () => {
  it('asks once for many who look, again later, and keeps the last list when that fails', async () => {
    const { directory, announce } = network()
    await announce('tale', 'a')
    let asked = 0
    let broken = false
    let clock = 0
    const list = watchNetworkModels(
      {
        ...directory,
        models: async (signal) => {
          asked++
          if (broken) throw new Error('no directory peer answers')
          return await directory.models(signal)
        },
      },
      { freshMs: 1_000, now: () => clock },
    )
    await Promise.all([list(), list(), list()])
    expect(asked).toBe(1)
    clock = 1_000
    await announce('other', 'b')
    expect((await list()).map(({ model }) => model.name)).toEqual(['other', 'tale'])
    broken = true
    clock = 2_000
    expect(await list()).toHaveLength(2)
    expect(asked).toBe(3)
  })

  it('throws when there was never a list, and asks anew the next time', async () => {
    const { directory } = network()
    let asked = 0
    const list = watchNetworkModels(
      {
        ...directory,
        models: async () => {
          if (asked++ === 0) throw new Error('no directory peer answers')
          return []
        },
      },
      {},
    )
    await expect(list()).rejects.toThrow(/no directory peer/)
    expect(await list()).toEqual([])
  })
})
