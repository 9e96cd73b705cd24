import { access } from 'node:fs/promises'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Path of a Chromium on this machine: `CHROMIUM_PATH`, or where packages put it. */
export async function findChromium(): Promise<string | undefined> {
  for (const path of [process.env['CHROMIUM_PATH'], ...PLACES]) {
    if (path === undefined) continue
    const found = await access(path).then(
      () => true,
      () => false,
    )
    if (found) return path
  }
  return undefined
}
