import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
const read = (name: string): Record<string, Record<string, string> | undefined> =>
  JSON.parse(readFileSync(join(ROOT, name), 'utf8'))

describe('package.json', () => {
  const manifest = read('package.json')

  it('pins exact versions', () => {
    const versions = Object.entries({ ...manifest['dependencies'], ...manifest['devDependencies'] })
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([])
  })

  it('has a lockfile that names no host', () => {
    expect(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).not.toMatch(/"resolved": *"http/)
  })

  // A registry that lacks a platform's binary lets npm drop it from the lockfile, and then `npm ci` refuses the file.
  it('has a lockfile with the binaries of every platform', () => {
    const { packages } = read('package-lock.json') as unknown as {
      packages: Record<string, { optionalDependencies?: Record<string, string> }>
    }
    const locked = Object.keys(packages)
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}))
    const missing = wanted.filter((name) => !locked.some((path) => path.endsWith(`node_modules/${name}`)))
    expect(missing).toEqual([])
  })

  it('brings a licence', () => {
    expect(readFileSync(join(ROOT, 'LICENSE'), 'utf8')).toContain('MIT License')
  })
})
