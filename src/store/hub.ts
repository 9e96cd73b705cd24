/**
 * Models by name from a hub that speaks Hugging Face's `resolve` URLs, through the cache.
 *
 * A revision is pinned to its commit when the model is opened, so all files are of one state; what is cached of a
 * commit never needs the network again.
 */

import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { ChoraleError, isChoraleError } from '../errors.ts'
import type { JsonObject } from '../model/json.ts'
import type { ModelFolder } from '../model/model-folder.ts'
import type { CacheStore } from './cache-store.ts'
import { checkStatus, hostOf, type HttpOptions, request } from './http-range.ts'
import { type HttpSource, openHttpSource, type Progress } from './http-source.ts'

/** Where models come from unless `HF_ENDPOINT` says otherwise. */
export const DEFAULT_ENDPOINT = 'https://huggingface.co'

export interface HubOptions extends HttpOptions {
  readonly endpoint: string
  readonly cache: CacheStore
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string | undefined
  readonly progress?: Progress
}

/** A model's repository as a folder. */
export interface HubFolder extends ModelFolder {
  readonly commit: string
  open(file: string, signal?: AbortSignal): Promise<HttpSource | undefined>
}

/** What the cache remembers of one file of one commit. */
interface FileRecord {
  readonly missing?: boolean
  readonly size?: number
  readonly blob?: string
  readonly sha256?: string
}

/** Whether `ref` has the form of a hub name: `org/repo`, or `org/repo/file.gguf`. */
export function isHubName(ref: string): boolean {
  const [org = '', repo = '', ...file] = ref.split('/')
  const segment = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/
  if (![org, repo, ...file].every((part) => segment.test(part) && !part.includes('..'))) return false
  return file.length === 0 || (file.length <= 4 && ref.endsWith('.gguf'))
}

/** The cache folder of a repository. */
export function hubCachePath(repo: string): string {
  return `hub/${encodeURIComponent(repo)}`
}

/**
 * Finds out which commit a revision is. Without network the last known commit is taken.
 * @param probe a file the repository must have
 * @throws `not_found`, `bad_config` (gated), `unreachable` naming the host when nothing is cached.
 */
export async function openHubFolder(
  repo: string,
  probe: string,
  options: HubOptions,
  signal?: AbortSignal,
): Promise<HubFolder> {
  const { cache } = options
  const revision = options.revision ?? 'main'
  if (!/^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$/.test(revision) || revision.includes('..')) {
    throw new ChoraleError(
      'bad_config',
      `"${revision.slice(0, 100)}" is no revision: a branch, tag or commit`,
    )
  }
  const base = hubCachePath(repo)
  const commit = await pin()
  // Without a commit the server may change files under their name, so records are only used when it can't be asked.
  const pinned = /^[0-9a-f]{40}$/.test(commit)

  async function pin(): Promise<string> {
    if (/^[0-9a-f]{40}$/.test(revision)) return revision
    const ref = `${base}/refs/${encodeURIComponent(revision)}`
    try {
      const url = fileUrl(options.endpoint, repo, revision, probe)
      const head = await headFile(url, `${repo} (${revision})`, options, signal)
      if (head === undefined) throw unknownModel(options.endpoint, repo, revision, probe)
      const found = head.commit ?? `unpinned-${encodeURIComponent(revision)}`
      await cache.writeText(ref, found)
      return found
    } catch (error) {
      if (!isChoraleError(error) || error.code !== 'unreachable') throw error
      const known = await cache.readText(ref)
      if (known === undefined) throw offline(error, repo, 'is not in the cache')
      options.log.warn('the hub could not be reached, using the cache', {
        repo,
        host: hostOf(options.endpoint),
      })
      return known
    }
  }

  async function record(file: string, url: string, abort: AbortSignal | undefined): Promise<FileRecord> {
    const path = `${base}/snapshots/${commit}/${encodeURIComponent(file)}.json`
    const known = parseRecord(await cache.readText(path))
    if (known !== undefined && pinned) return known
    let head: Head | undefined
    try {
      head = await headFile(url, `${repo}/${file}`, options, abort)
    } catch (error) {
      if (!isChoraleError(error) || error.code !== 'unreachable') throw error
      if (known === undefined) throw offline(error, `${repo}/${file}`, 'is not in the cache')
      return known
    }
    const fresh: FileRecord =
      head === undefined
        ? { missing: true }
        : {
            size: head.size,
            blob: blobName(head.etag ?? `${commit}/${file}`, head.size),
            ...(head.sha256 === undefined ? {} : { sha256: head.sha256 }),
          }
    await cache.writeText(path, JSON.stringify(fresh))
    return fresh
  }

  return {
    name: repo,
    commit,
    open: async (file, abort = signal) => {
      const url = fileUrl(options.endpoint, repo, pinned ? commit : revision, file)
      const { blob, missing, sha256: digest, size } = await record(file, url, abort)
      if (missing === true || blob === undefined || size === undefined) return undefined
      const remote = {
        name: `${repo}/${file}`,
        url,
        size,
        cachePath: `${base}/blobs/${blob}`,
        sha256: digest,
      }
      return await openHttpSource(remote, cache, options)
    },
  }
}

interface Head {
  readonly commit: string | undefined
  readonly etag: string | undefined
  readonly size: number
  readonly sha256: string | undefined
}

/** Asks for a file's size, content tag and commit without its bytes; undefined when the repository has no such file. */
async function headFile(
  start: string,
  what: string,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<Head | undefined> {
  let url = start
  let commit: string | undefined
  let etag: string | undefined
  let size: number | undefined
  // Redirects are followed by hand: the hub's own headers are on the first answers, the last is some CDN's.
  for (let hops = 0; hops < 6; hops++) {
    const sameOrigin = new URL(url).origin === new URL(start).origin
    const asked = sameOrigin ? options : { ...options, token: undefined }
    let response = await request(url, { method: 'HEAD', redirect: 'manual' }, asked, signal)
    if (response.type === 'opaqueredirect') response = await request(url, { method: 'HEAD' }, asked, signal)
    const { headers } = response
    commit ??= /^[0-9a-f]{40}$/.exec(headers.get('x-repo-commit') ?? '')?.[0]
    etag ??= headers.get('x-linked-etag') ?? undefined
    size ??= numberOf(headers.get('x-linked-size'))
    if (response.status >= 300 && response.status < 400) {
      const location = headers.get('location')
      if (etag !== undefined && size !== undefined) break
      if (location === null) throw new ChoraleError('unreachable', `${what}: a redirect that leads nowhere`)
      url = new URL(location, url).href
      if (!/^https?:/.test(url))
        throw new ChoraleError('unreachable', `${what}: redirected to ${url.slice(0, 20)}`)
      continue
    }
    const code = headers.get('x-error-code')
    if (response.status === 404 && (code === null || code === 'EntryNotFound')) return undefined
    checkStatus(response, start, what, options.token !== undefined)
    etag ??= headers.get('etag') ?? undefined
    size ??= numberOf(headers.get('content-length'))
    break
  }
  if (size === undefined)
    throw new ChoraleError('not_supported', `${what}: ${hostOf(start)} does not tell its size`)
  const tag = etag?.replace(/^W\//, '').replaceAll('"', '')
  return { commit, etag: tag, size, sha256: /^[0-9a-f]{64}$/.exec(tag ?? '')?.[0] }
}

function fileUrl(endpoint: string, repo: string, revision: string, file: string): string {
  const path = file.split('/').map(encodeURIComponent).join('/')
  return `${endpoint.replace(/\/+$/, '')}/${repo}/resolve/${encodeURIComponent(revision)}/${path}`
}

/** Content addresses make files that did not change between commits one file. */
function blobName(etag: string, size: number): string {
  return /^[0-9a-f]{40,64}$/.test(etag) ? etag : bytesToHex(sha256(utf8ToBytes(`${size} ${etag}`)))
}

function parseRecord(text: string | undefined): FileRecord | undefined {
  if (text === undefined) return undefined
  try {
    const { blob, missing, sha256: digest, size } = JSON.parse(text) as JsonObject
    if (missing === true) return { missing }
    if (typeof blob !== 'string' || !/^[0-9a-f]{40,64}$/.test(blob)) return undefined
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined
    return { blob, size, ...(typeof digest === 'string' ? { sha256: digest } : {}) }
  } catch {
    return undefined // a damaged record is fetched again
  }
}

function numberOf(header: string | null): number | undefined {
  return header !== null && /^\d{1,15}$/.test(header) ? Number(header) : undefined
}

function unknownModel(endpoint: string, repo: string, revision: string, probe: string): ChoraleError {
  return new ChoraleError(
    'not_found',
    `${repo}: ${hostOf(endpoint)} has no ${probe} at revision ${revision}: unknown model, or not in Hugging Face layout ` +
      '(name a GGUF file as org/repo/file.gguf)',
  )
}

function offline(error: ChoraleError, what: string, problem: string): ChoraleError {
  return new ChoraleError(
    'unreachable',
    `${what} ${problem}, and ${error.message}. Models pulled before work offline.`,
    {
      cause: error,
    },
  )
}
