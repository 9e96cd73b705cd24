/**
 * Lets the pages open without a network: files under assets/ carry their content's hash and never change, the page
 * itself comes from the network where there is one. Nothing of the API is ever kept here.
 */
const CACHE = 'chorale-pages'

self.addEventListener('install', () => self.skipWaiting())
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()))

self.addEventListener('fetch', (event) => {
  const { request } = event
  const url = new URL(request.url)
  const base = new URL('./', self.registration.scope)
  if (request.method !== 'GET' || url.origin !== base.origin) return
  const path = url.pathname.slice(base.pathname.length)
  if (path.startsWith('assets/')) event.respondWith(cacheFirst(request))
  else if (['', 'index.html', 'icon.svg', 'manifest.webmanifest'].includes(path)) {
    event.respondWith(networkFirst(request, path === '' || path === 'index.html'))
  }
})

async function cacheFirst(request) {
  const cache = await caches.open(CACHE)
  const kept = await cache.match(request)
  if (kept !== undefined) return kept
  const response = await fetch(request)
  if (response.ok) await cache.put(request, response.clone())
  return response
}

async function networkFirst(request, isPage) {
  const cache = await caches.open(CACHE)
  try {
    const response = await fetch(request)
    if (response.ok) {
      await cache.put(request, response.clone())
      if (isPage) await dropStale(cache, await response.clone().text())
    }
    return response
  } catch (error) {
    const kept = await cache.match(request)
    if (kept !== undefined) return kept
    throw error
  }
}

/** Assets of versions before the last one that was seen, chunks that a page loads later excepted, are let go. */
async function dropStale(cache, html) {
  const entry = /assets\/index-[\w-]+\.js/.exec(html)?.[0]
  const marker = new Request('./version')
  const before = await (await cache.match(marker))?.text()
  if (entry === undefined || before === entry) return
  await cache.put(marker, new Response(entry))
  for (const request of await cache.keys()) {
    if (new URL(request.url).pathname.includes('/assets/')) await cache.delete(request)
  }
}
