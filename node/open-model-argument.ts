import type { Model } from '../src/model/model.ts'
import { resolveModel } from '../src/store/resolve-model.ts'
import { createProgress } from './cli/terminal.ts'
import { BUNDLED_MODEL, createModelPorts } from './model-ports.ts'

/** Opens what a MODEL argument names, with progress on stderr when it is fetched from a hub. Same errors as `resolveModel`. */
export async function openModelArgument(
  reference: string = BUNDLED_MODEL,
  options: { readonly revision?: string | undefined; readonly signal?: AbortSignal } = {},
): Promise<Model> {
  const progress = createProgress(process.stderr)
  try {
    return await resolveModel(reference, createModelPorts(), {
      ...options,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
    })
  } finally {
    progress.end()
  }
}
