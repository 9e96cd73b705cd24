import { join } from 'node:path'
import { createFileStore } from '../../node/file-store.ts'
import { openModel } from '../../src/model/open-model.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'

/** Models that are too big for the repository. */
export const SHARED = join(import.meta.dirname, '../../../shared')
export const SMOLLM2 = join(SHARED, 'models/smollm2-135m-instruct-q4_1.gguf')
export const STORIES = join(SHARED, 'models/stories260K/stories260K.gguf')
export const STORYTELLER = join(import.meta.dirname, '../../models/storyteller')

export async function tokenizerOf(path: string): Promise<Tokenizer> {
  const model = await openModel(path, { files: createFileStore() })
  try {
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new Error(`${path} holds no tokenizer`)
    return createTokenizer(files, model.spec)
  } finally {
    await model.close()
  }
}
