/** Each is dialled at once at the start. */
const MAX_BOOTSTRAP = 8

/** Addresses a page may dial: WebSockets, and secure ones only when the page is. A few are enough to get in. */
export function dialable(addrs: readonly string[], secure: boolean): string[] {
  const sockets = addrs.filter((addr) => {
    const isSecure = /\/(?:wss|tls\/(?:sni\/[^/]+\/)?ws)(?:\/|$)/.test(addr)
    const isSocket = isSecure || /\/ws(?:\/|$)/.test(addr)
    return isSocket && (isSecure || !secure || /^\/(?:ip4\/127\.|dns4?\/localhost\/)/.test(addr))
  })
  return [...new Set(sockets)].slice(0, MAX_BOOTSTRAP)
}
