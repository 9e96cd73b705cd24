/** From what a person calls a model to the opened model: bundled name, path of this machine, or hub name. */

import { ChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { Model } from '../model/model.ts'
import { openGguf } from '../model/open-gguf.ts'
import { openModel, openModelFolder } from '../model/open-model.ts'
import type { FileStore } from '../platform.ts'
import type { CacheStore } from './cache-store.ts'
import { DEFAULT_ENDPOINT, type HubFolder, type HubOptions, isHubName, openHubFolder } from './hub.ts'
import type { Progress } from './http-source.ts'

/** What this machine offers for finding models. */
export interface ModelPorts {
  readonly files: FileStore
  readonly cache: CacheStore
  readonly log: Logger
  /** Names of models that come with the program, each with its folder. */
  readonly bundled: ReadonlyMap<string, string>
  /** `HF_ENDPOINT`; default huggingface.co. */
  readonly endpoint?: string | undefined
  /** `HF_TOKEN`. */
  readonly token?: string | undefined
  readonly fetch?: typeof fetch
  readonly retryDelayMs?: number
  readonly idleTimeoutMs?: number
}

export interface ResolveOptions {
  readonly revision?: string | undefined
  readonly signal?: AbortSignal
  /** Bytes fetched of those asked for so far; silent while nothing is fetched. */
  readonly onProgress?: (progress: { readonly loadedBytes: number; readonly totalBytes: number }) => void
}

export type ModelPlace =
  | { readonly kind: 'local'; readonly path: string; readonly name: string | undefined }
  | { readonly kind: 'hub'; readonly repo: string; readonly file: string | undefined }

/**
 * Says where `ref` leads: a bundled name, then an existing path, then a hub name.
 * @throws `not_found` saying what was tried.
 */
export async function locateModel(ref: string, ports: ModelPorts): Promise<ModelPlace> {
  const bundled = ports.bundled.get(ref)
  if (bundled !== undefined) return { kind: 'local', path: bundled, name: ref }
  if (ref !== '' && (await ports.files.stat(ref)) !== 'nothing')
    return { kind: 'local', path: ref, name: undefined }
  if (isHubName(ref)) {
    const [org, repo, ...file] = ref.split('/')
    return { kind: 'hub', repo: `${org}/${repo}`, file: file.length === 0 ? undefined : file.join('/') }
  }
  throw new ChoraleError(
    'not_found',
    `${ref.slice(0, 200)}: no such folder or .gguf file, no hub name (org/repo), and not one of the bundled models ` +
      `(${[...ports.bundled.keys()].join(', ')})`,
  )
}

/** A revision that the hub pinned. */
const COMMIT = /^[0-9a-f]{40}$/

/** Finds and opens a model. @throws `not_found`, `bad_config`, `bad_file`, `not_supported`, `unreachable`. */
export async function resolveModel(
  ref: string,
  ports: ModelPorts,
  options: ResolveOptions = {},
): Promise<Model> {
  const { onProgress, signal } = options
  const abort = signal === undefined ? {} : { signal }
  const place = await locateModel(ref, ports)
  if (place.kind === 'local') {
    return await openModel(place.path, ports, {
      ...abort,
      ...(place.name === undefined ? {} : { name: place.name }),
    })
  }
  const progress = onProgress === undefined ? undefined : progressOf(onProgress)
  const folder = await openHub(place, ports, options.revision, progress, signal)
  const pinned = COMMIT.test(folder.commit) ? { revision: folder.commit } : {}
  if (place.file === undefined) {
    return { ...(await openModelFolder(folder, { name: place.repo, ...abort })), ...pinned }
  }
  const source = await folder.open(place.file, signal)
  if (source === undefined) throw new ChoraleError('not_found', `${place.repo}: no ${place.file}`)
  return { ...(await openGguf(source, { name: ref, ...abort })), ...pinned }
}

/** Opens the repository of a hub model. Same errors. */
export async function openHub(
  place: ModelPlace & { kind: 'hub' },
  ports: ModelPorts,
  revision: string | undefined,
  progress: Progress | undefined,
  signal: AbortSignal | undefined,
): Promise<HubFolder> {
  const options: HubOptions = {
    endpoint: checkedEndpoint(ports.endpoint ?? DEFAULT_ENDPOINT),
    cache: ports.cache,
    log: ports.log.child('hub'),
    fetch: ports.fetch ?? fetch,
    revision,
    token: ports.token,
    ...(progress === undefined ? {} : { progress }),
    ...(ports.retryDelayMs === undefined ? {} : { retryDelayMs: ports.retryDelayMs }),
    ...(ports.idleTimeoutMs === undefined ? {} : { idleTimeoutMs: ports.idleTimeoutMs }),
  }
  return await openHubFolder(place.repo, place.file ?? 'config.json', options, signal)
}

function progressOf(report: NonNullable<ResolveOptions['onProgress']>): Progress {
  let loadedBytes = 0
  let totalBytes = 0
  return {
    need: (bytes) => {
      totalBytes += bytes
    },
    got: (bytes) => {
      loadedBytes += bytes
      report({ loadedBytes, totalBytes })
    },
  }
}

function checkedEndpoint(endpoint: string): string {
  if (URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol)) return endpoint
  throw new ChoraleError(
    'bad_config',
    `HF_ENDPOINT is "${endpoint.slice(0, 200)}", must be an http or https URL`,
  )
}
