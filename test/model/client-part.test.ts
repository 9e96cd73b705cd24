import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { errorCode } from '../../src/errors.ts'
import {
  checkClientPart,
  describeClientPart,
  openClientPart,
  readClientBlob,
} from '../../src/model/client-part.ts'
import { openModel } from '../../src/model/open-model.ts'

const model = await openModel(join(import.meta.dirname, '../../models/storyteller'), {
  files: createFileStore(),
})
const part = await describeClientPart(model)
/** As it comes over the network. */
const wire = JSON.parse(JSON.stringify(part)) as Record<string, unknown>

describe('describeClientPart', () => {
  it('names each blob once, a tied head as the embedding', () => {
    expect(part.blobs.map(({ name }) => name)).toEqual(
      model.spec.tiedHead
        ? ['tokenizer', 'embedding', 'finalNorm']
        : ['tokenizer', 'embedding', 'finalNorm', 'head'],
    )
    expect(part.weights.head?.blob).toBe(model.spec.tiedHead ? 'embedding' : 'head')
  })

  it('gives nothing but the client’s part', async () => {
    await expect(readClientBlob(model, 'q')).rejects.toMatchObject({ code: 'not_found' })
    await expect(readClientBlob(model, '../config.json')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('openClientPart', () => {
  it('is the same model after a way through JSON, without its blocks', async () => {
    const opened = openClientPart(wire, ({ name }) => readClientBlob(model, name))
    expect(opened.spec).toEqual(model.spec)
    expect([opened.id, opened.name, opened.generationDefaults]).toEqual([
      model.id,
      model.name,
      model.generationDefaults,
    ])
    for (const role of ['embedding', 'finalNorm', 'head'] as const) {
      const { bytes, ...info } = await opened.weights.client(role)
      const { bytes: wanted, ...wantedInfo } = await model.weights.client(role)
      expect(info).toEqual(wantedInfo)
      expect(Buffer.compare(bytes, wanted)).toBe(0)
    }
    expect(await opened.tokenizerFiles()).toEqual(await model.tokenizerFiles())
    await expect(opened.weights.block(0, 'q')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('checkClientPart', () => {
  it.each([
    ['id', { id: '../x@0123456789ab' }],
    ['blobs', { blobs: [{ name: '../x', byteLength: 1, sha256: '0'.repeat(64) }] }],
    ['blobs', { blobs: [{ name: 'x', byteLength: 2 ** 50, sha256: '0'.repeat(64) }] }],
    ['blobs', { blobs: Array(1000).fill(part.blobs[0]) }],
    ['weights.head.dtype', { weights: { head: { ...part.weights.head, dtype: 'I8' } } }],
    ['weights.head.blob', { weights: { head: { ...part.weights.head, shape: [1, 32] } } }],
    ['weights.head.shape', { weights: { head: { ...part.weights.head, shape: [-1] } } }],
  ])('names %s when it is unusable', (field, change) => {
    expect(() => checkClientPart({ ...wire, ...change })).toThrow(
      expect.objectContaining({ code: 'bad_file', field }),
    )
  })

  it('answers any change of any field with a description or bad_file', () => {
    const paths = [
      ...Object.keys(wire),
      'weights.head',
      'weights.head.shape',
      'blobs.0',
      'blobs.0.byteLength',
    ]
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.anything(), (path, value) => {
        const copy = structuredClone(wire)
        const keys = path.split('.')
        const last = keys.pop()!
        const parent = keys.reduce<Record<string, unknown>>(
          (object, key) => object[key] as Record<string, unknown>,
          copy,
        )
        parent[last] = value
        try {
          checkClientPart(copy)
        } catch (error) {
          expect(errorCode(error)).toBe('bad_file')
        }
      }),
      { numRuns: 20_000 },
    )
  })
})
