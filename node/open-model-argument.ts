import { join } from 'node:path'
import type { Model } from '../src/model/model.ts'
import { openModel } from '../src/model/open-model.ts'
import { createFileStore } from './file-store.ts'
import { PACKAGE_ROOT } from './platform.ts'

/** The model that needs no download. */
export const BUNDLED_MODEL = 'storyteller'

/** Opens what a MODEL argument names. */
export async function openModelArgument(reference: string = BUNDLED_MODEL): Promise<Model> {
  const path = reference === BUNDLED_MODEL ? join(PACKAGE_ROOT, 'models', BUNDLED_MODEL) : reference
  return await openModel(path, { files: createFileStore() })
}
