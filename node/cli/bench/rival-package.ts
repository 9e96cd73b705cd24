import { execFile } from 'node:child_process'
import { access, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from '../../folders.ts'

const INSTALL_LIMIT_MS = 180_000

/** Where a rival is installed, or why it is not. */
export type Installed = { readonly folder: string } | { readonly reason: string }

/**
 * Installs a program to compare with into the cache, the first time it is asked for: rivals are no dependencies of
 * Chorale. Their install scripts don't run.
 * @param name of the folder, with the version in it
 * @param packages exact, as npm takes them: `name@version`
 */
export async function installRival(name: string, packages: readonly string[]): Promise<Installed> {
  const folder = join(cacheFolder(), 'bench', name)
  const ready = join(folder, 'ready')
  try {
    await access(ready)
    return { folder }
  } catch {
    // Not installed yet, or only half: install again.
  }
  try {
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'package.json'), '{"private":true}')
    const flags = ['--no-save', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
    await promisify(execFile)('npm', ['install', ...flags, ...packages], {
      cwd: folder,
      timeout: INSTALL_LIMIT_MS,
    })
    await writeFile(ready, '')
    return { folder }
  } catch (error) {
    return { reason: `${name} could not be installed with npm: ${(error as Error).message.split('\n')[0]}` }
  }
}
