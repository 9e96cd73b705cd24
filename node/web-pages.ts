import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, extname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { ChoraleError, errorMessage } from '../src/errors.ts'
import { PACKAGE_ROOT } from './platform.ts'

/** The built pages as a part of an HTTP app. */
export interface WebPages {
  /** The page's file a request asks for, or undefined when it is for something else. */
  respond(request: Request): Promise<Response> | undefined
  /** Builds them now if need be. @throws `internal` with what the build said. */
  ready(): Promise<void>
}

const DIST = join(PACKAGE_ROOT, 'dist', 'web')
/** What the pages are made from; a change of any of them makes the built ones stale. */
const SOURCES = ['web', 'src', 'shaders', 'package-lock.json', 'node/web-pages.ts']
/** Names the sources the built pages were made from. */
const STAMP = '.sources'

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
}

/**
 * Pages run no inline script or style and load nothing from third parties; sockets may go anywhere, because servers
 * are anywhere. Cross-origin isolation gives WebAssembly its shared memory.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "manifest-src 'self'",
    "connect-src 'self' ws: wss:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'permissions-policy': 'camera=(), microphone=(), geolocation=()',
}

/** The pages of this package, built on demand: a change of sources is seen at the next start. */
export function createWebPages(): WebPages {
  let building: Promise<void> | undefined
  const ready = (): Promise<void> => {
    building ??= buildIfStale().catch((error: unknown) => {
      building = undefined
      throw error
    })
    return building
  }
  return {
    ready,
    respond(request) {
      if (request.method !== 'GET' && request.method !== 'HEAD') return undefined
      const path = pagePath(new URL(request.url).pathname)
      if (path === undefined) return undefined
      return ready().then(
        () => sendFile(path, request),
        (error: unknown) => new Response(`${errorMessage(error)}\n`, { status: 500 }),
      )
    },
  }
}

/** Only these names are pages: everything else of the host's paths is the API's. */
function pagePath(pathname: string): string | undefined {
  if (pathname === '/' || pathname === '/index.html') return 'index.html'
  const named = /^\/(assets\/[A-Za-z0-9_-][A-Za-z0-9._-]*|[a-z-]+\.(?:svg|png|webmanifest|js))$/.exec(
    pathname,
  )
  return named?.[1]
}

/** Kinds of files that gzip makes smaller. */
const COMPRESSED: ReadonlySet<string> = new Set([
  '.html',
  '.js',
  '.css',
  '.wasm',
  '.svg',
  '.json',
  '.webmanifest',
])
const compress = promisify(gzip)
/** Compressed files by path and time of change; as many as the pages have, because only these are found. */
const compressed = new Map<
  string,
  { readonly changed: number; readonly bytes: Promise<Uint8Array<ArrayBuffer>> }
>()

async function sendFile(path: string, request: Request): Promise<Response> {
  const file = join(DIST, path)
  const extension = extname(path)
  const accepts = /\bgzip\b/.test(request.headers.get('accept-encoding') ?? '')
  const zip = accepts && COMPRESSED.has(extension)
  let bytes: Uint8Array<ArrayBuffer>
  try {
    bytes = zip ? await compressedFile(file) : new Uint8Array(await readFile(file))
  } catch {
    return new Response('not found\n', { status: 404 })
  }
  const headers = {
    ...PAGE_HEADERS,
    'content-type': TYPES[extension] ?? 'application/octet-stream',
    'content-length': String(bytes.length),
    vary: 'accept-encoding',
    ...(zip && { 'content-encoding': 'gzip' }),
    // Names under assets/ carry their content's hash.
    'cache-control': path.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
  }
  return new Response(request.method === 'HEAD' ? null : bytes, { headers })
}

async function compressedFile(file: string): Promise<Uint8Array<ArrayBuffer>> {
  const changed = (await stat(file)).mtimeMs
  const known = compressed.get(file)
  if (known?.changed === changed) return await known.bytes
  const bytes = readFile(file)
    .then((content) => compress(content))
    .then((content) => new Uint8Array(content))
  compressed.set(file, { changed, bytes })
  return await bytes
}

async function buildIfStale(): Promise<void> {
  const wanted = await sourcesHash()
  const built = await readFile(join(DIST, STAMP), 'utf8').catch(() => '')
  // Without its sources there is only what was built.
  if (built !== '' && (wanted === undefined || built === wanted)) return
  const vite = join(PACKAGE_ROOT, 'node_modules', 'vite', 'bin', 'vite.js')
  if (wanted === undefined || !(await exists(vite))) {
    throw new ChoraleError(
      'internal',
      'the pages are not built and vite is missing; run npm ci and start again',
    )
  }
  // Two processes may build at once: each into a folder of its own, and the last one's stays.
  const folder = `${DIST}-${process.pid}`
  await mkdir(dirname(DIST), { recursive: true })
  try {
    await runBuild(vite, folder)
    await writeFile(join(folder, STAMP), wanted)
    await rm(DIST, { recursive: true, force: true })
    await rename(folder, DIST)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function runBuild(vite: string, outDir: string): Promise<void> {
  const runtime = 'Deno' in globalThis ? ['run', '-A'] : []
  const args = [...runtime, vite, 'build', 'web', '--outDir', outDir, '--emptyOutDir', '--logLevel', 'error']
  const child = spawn(process.execPath, args, {
    cwd: PACKAGE_ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
    // Whoever starts us may develop or test; what is served is meant for use.
    env: { ...process.env, NODE_ENV: 'production' },
  })
  let said = ''
  child.stderr.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4000)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new ChoraleError('internal', `the pages could not be built: ${said.trim()}`)
}

/** SHA-256 over the pages' sources; undefined in an installation without them. */
async function sourcesHash(): Promise<string | undefined> {
  if (!(await exists(join(PACKAGE_ROOT, 'web', 'index.html')))) return undefined
  const hash = createHash('sha256')
  for (const source of SOURCES) {
    for (const file of await filesUnder(join(PACKAGE_ROOT, source))) {
      hash.update(`${relative(PACKAGE_ROOT, file)}\n`)
      hash.update(await readFile(file))
    }
  }
  return hash.digest('hex')
}

async function filesUnder(path: string): Promise<readonly string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  )
}
