import type { LanguageModel } from '../session/language-model.ts'
import type { NetworkModel } from '../session/network-models.ts'
import { ApiError, invalidRequest } from './errors.ts'

/**
 * The model a caller names: by its id `name@digest`, or by its name where that is unambiguous.
 * @throws `ApiError` 404 `model_not_found`, 400 when the name fits several.
 */
export function findModel(models: readonly LanguageModel[], wanted: string): LanguageModel {
  const exact = models.find((model) => model.model.id === wanted)
  if (exact !== undefined) return exact
  const named = models.filter((model) => [model.model.name, nameOf(model.model.id)].includes(wanted))
  const [only] = named
  if (only === undefined) {
    const known = models.map((model) => model.model.id).join(', ')
    throw new ApiError(
      404,
      'not_found_error',
      `model "${wanted.slice(0, 200)}" is not served here; there is ${known === '' ? 'none' : known}`,
      { param: 'model', code: 'model_not_found' },
    )
  }
  if (named.length > 1) {
    const ids = named.map((model) => model.model.id).join(', ')
    throw invalidRequest('model', `model: "${wanted}" may be any of ${ids}; name one of them`)
  }
  return only
}

/**
 * `findModel` among those that are answered for here; one that others of the network serve is told so.
 * @throws as `findModel`.
 */
export async function findModelHere(
  {
    models,
    networkModels,
  }: {
    readonly models: () => readonly LanguageModel[]
    readonly networkModels?: () => Promise<readonly NetworkModel[]>
  },
  wanted: string,
): Promise<LanguageModel> {
  try {
    return findModel(models(), wanted)
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error
    const network = (await networkModels?.().catch(() => [])) ?? []
    const known = network.find(({ model }) => [model.modelId, model.name].includes(wanted))
    if (known === undefined) throw error
    throw new ApiError(
      404,
      'not_found_error',
      `${known.model.modelId} is served in this network, but this gateway does not answer for it: start one with chorale gateway ${known.model.name}`,
      { param: 'model', code: 'model_not_found' },
    )
  }
}

function nameOf(id: string): string {
  const at = id.lastIndexOf('@')
  return at <= 0 ? id : id.slice(0, at)
}
