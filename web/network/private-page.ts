const PRIVATE_HOST = /^(?:localhost|.*\.localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|\[)/

/** Whether the page comes from this machine or its local network: such a page may dial what lies there. */
export function isPrivatePage(): boolean {
  return PRIVATE_HOST.test(location.hostname)
}
