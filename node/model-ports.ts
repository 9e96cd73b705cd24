import { join } from 'node:path'
import { type Logger, silentLogger } from '../src/log.ts'
import type { ModelPorts } from '../src/store/resolve-model.ts'
import { createCacheStore } from './cache-store.ts'
import { createFileStore } from './file-store.ts'
import { cacheFolder } from './folders.ts'
import { PACKAGE_ROOT } from './platform.ts'

/** The model that comes with the program and needs no download: the default MODEL of every verb. */
export const BUNDLED_MODEL = 'storyteller'

/** Where this machine finds models: disk, cache, and the hub that `HF_ENDPOINT` and `HF_TOKEN` name. */
export function createModelPorts(
  log: Logger = silentLogger,
  env: NodeJS.ProcessEnv = process.env,
): ModelPorts {
  const set = (name: string) => (env[name] === '' ? undefined : env[name])
  return {
    files: createFileStore(),
    cache: createCacheStore(cacheFolder()),
    log,
    bundled: new Map([[BUNDLED_MODEL, join(PACKAGE_ROOT, 'models', BUNDLED_MODEL)]]),
    endpoint: set('HF_ENDPOINT'),
    token: set('HF_TOKEN'),
  }
}
