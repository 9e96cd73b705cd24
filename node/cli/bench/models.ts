import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { PACKAGE_ROOT } from '../../platform.ts'

/** The benchmark model every figure in the docs names; too big to bundle. */
const SMOLLM2_FILE = 'smollm2-135m-instruct-q4_1.gguf'

/**
 * Models to measure: those asked for, else the bundled one and SmolLM2 where it is found – in the folders of
 * `CHORALE_MODELS`, or in `shared/models` beside the package.
 */
export async function benchModels(asked: readonly string[]): Promise<string[]> {
  if (asked.length > 0) return [...asked]
  const folders = [
    ...(process.env['CHORALE_MODELS']?.split(delimiter) ?? []),
    join(PACKAGE_ROOT, '..', 'shared', 'models'),
  ]
  const models = [join(PACKAGE_ROOT, 'models', 'storyteller')]
  for (const folder of folders) {
    const path = join(folder, SMOLLM2_FILE)
    const found = await access(path).then(
      () => true,
      () => false,
    )
    if (found) return [...models, path]
  }
  process.stderr.write(
    `skip SmolLM2: no ${SMOLLM2_FILE} in a folder of CHORALE_MODELS; --model PATH names one\n`,
  )
  return models
}
