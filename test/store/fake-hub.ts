import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const COMMIT = 'c'.repeat(40)

/** One request the hub saw. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly range: string | undefined
  readonly authorization: string | undefined
}

export interface FakeHub {
  readonly endpoint: string
  readonly seen: Seen[]
  /** Bytes of bodies sent. */
  sentBytes(): number
  /** Replaces how GET requests of files are answered; undefined: as a hub does. */
  misbehave: ((request: IncomingMessage, response: ServerResponse, body: Uint8Array) => boolean) | undefined
  /** Answers HEAD and GET with this instead of files. */
  refuse: { readonly status: number; readonly code?: string } | undefined
  /** Sends files with their SHA-256 and a redirect to another origin, as large files are. */
  readonly files: Map<string, Uint8Array>
  pinned: boolean
  stop(): Promise<void>
}

/** A hub on loopback for one repository, with a second server as its CDN. */
export async function startFakeHub(
  repo: string,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<FakeHub> {
  const seen: Seen[] = []
  let sent = 0
  const content = new Map(Object.entries(files))
  const note = (request: IncomingMessage) => {
    const { authorization, range } = request.headers
    seen.push({ method: request.method ?? '', path: request.url ?? '', range, authorization })
  }
  const sendFile = (request: IncomingMessage, response: ServerResponse, body: Uint8Array) => {
    if (hub.misbehave?.(request, response, body) === true) return
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
    if (match === null) {
      response.writeHead(200, { 'content-length': body.length })
      sent += body.length
      response.end(body)
      return
    }
    const [start, end] = [Number(match[1]), Math.min(Number(match[2]), body.length - 1)]
    response.writeHead(206, {
      'content-length': end + 1 - start,
      'content-range': `bytes ${start}-${end}/${body.length}`,
    })
    sent += end + 1 - start
    response.end(body.subarray(start, end + 1))
  }
  const cdn = createServer((request, response) => {
    note(request)
    sendFile(request, response, content.get(decodeURIComponent((request.url ?? '').slice(1)))!)
  })
  const cdnUrl = await listen(cdn)
  const main = createServer((request, response) => {
    note(request)
    if (hub.refuse !== undefined) {
      const { code, status } = hub.refuse
      response.writeHead(status, code === undefined ? {} : { 'x-error-code': code }).end()
      return
    }
    const [, file] = new RegExp(`^/${repo}/resolve/(?:main|${COMMIT}|v1)/(.+)$`).exec(request.url ?? '') ?? []
    const body = file === undefined ? undefined : content.get(file)
    if (file === undefined || body === undefined) {
      response.writeHead(404, { 'x-error-code': file === undefined ? 'RepoNotFound' : 'EntryNotFound' }).end()
      return
    }
    const commit = hub.pinned ? { 'x-repo-commit': COMMIT } : {}
    const sha256 = createHash('sha256').update(body).digest('hex')
    if (file.endsWith('.safetensors') || file.endsWith('.gguf')) {
      const linked = { 'x-linked-etag': `"${sha256}"`, 'x-linked-size': String(body.length) }
      response
        .writeHead(302, { ...commit, ...linked, location: `${cdnUrl}/${encodeURIComponent(file)}` })
        .end()
    } else if (request.method === 'HEAD') {
      const etag = `W/"${sha256.slice(0, 40)}"`
      response.writeHead(200, { ...commit, etag, 'content-length': body.length }).end()
    } else sendFile(request, response, body)
  })
  const endpoint = await listen(main)
  const hub: FakeHub = {
    endpoint,
    seen,
    files: content,
    sentBytes: () => sent,
    misbehave: undefined,
    refuse: undefined,
    pinned: true,
    stop: async () => {
      for (const server of [main, cdn]) {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    },
  }
  return hub
}

async function listen(server: ReturnType<typeof createServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
