import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createFactStore } from '../../node/fact-store.ts'

const folder = await mkdtemp(join(tmpdir(), 'chorale-facts-'))
afterAll(() => rm(folder, { recursive: true }))

describe('fact store', () => {
  it('keeps facts of any key for the next process, and knows nothing else', async () => {
    const key = 'wgsl NVIDIA H200 / driver ../../1'
    expect(await createFactStore(join(folder, 'deep/facts')).get(key)).toBeUndefined()
    await createFactStore(join(folder, 'deep/facts')).put(key, 'passed')
    expect(await createFactStore(join(folder, 'deep/facts')).get(key)).toBe('passed')
    expect(await createFactStore(join(folder, 'deep/facts')).get('wgsl')).toBeUndefined()
  })

  it('does without where it may not write', async () => {
    await writeFile(join(folder, 'file'), '')
    const store = createFactStore(join(folder, 'file/facts'))
    await store.put('key', 'passed')
    expect(await store.get('key')).toBeUndefined()
  })
})
