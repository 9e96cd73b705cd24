/**
 * Runs before the tests: gives a machine without a GPU the software Vulkan driver (lavapipe) that Dawn needs, and a
 * Chromium for the tests of the pages.
 *
 * Debian and Ubuntu as root: installs what is missing. Anywhere else: one line that says what to install.
 * It never fails the run: the tests that need a GPU say for themselves that they are skipped.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Older lavapipe lacks Vulkan features Dawn insists on. */
const OLDEST_MESA = 23
const UPDATE_TIMEOUT_MS = 90_000
const INSTALL_TIMEOUT_MS = 240_000
const PACKAGES = ['mesa-vulkan-drivers', 'libvulkan1']

/** The major version at the head of a Debian version string (`22.3.6-1+deb12u1`, `1:25.0`), or undefined. */
export function majorVersion(version: string): number | undefined {
  const match = /^(?:\d+:)?(\d+)/.exec(version.trim())
  return match?.[1] === undefined ? undefined : Number(match[1])
}

/** One package source of this machine: a mirror's address and what signs it. */
export interface AptSource {
  readonly uri: string
  readonly suites: readonly string[]
  readonly signedBy: string | undefined
}

/** Reads one-line (`deb [..] uri suite comp`) and deb822 (`URIs: ..`) source files. */
export function parseAptSources(text: string): AptSource[] {
  const found: AptSource[] = []
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/.exec(line)
    if (match?.[2] === undefined || match[3] === undefined) continue
    found.push({
      uri: match[2],
      suites: [match[3]],
      signedBy: /signed-by=(\S+)/.exec(match[1] ?? '')?.[1],
    })
  }
  for (const stanza of text.split(/\n\s*\n/)) {
    const field = (name: string): string | undefined =>
      new RegExp(`^${name}:[ \\t]*(.+)$`, 'im').exec(stanza)?.[1]?.trim()
    const types = field('Types')
    const uris = field('URIs')
    const suites = field('Suites')
    if (types?.split(/\s+/).includes('deb') !== true || uris === undefined || suites === undefined) continue
    for (const uri of uris.split(/\s+/))
      found.push({ uri, suites: suites.split(/\s+/), signedBy: field('Signed-By') })
  }
  return found
}

/** The `sources.list` line for `<codename>-backports` on the mirror this machine already uses, or undefined. */
export function backportsLine(sources: readonly AptSource[], codename: string): string | undefined {
  const base = sources.find((source) => source.suites.includes(codename) && !/security/.test(source.uri))
  if (base === undefined) return undefined
  const options = base.signedBy === undefined ? '' : `[signed-by=${base.signedBy}] `
  return `deb ${options}${base.uri} ${codename}-backports main`
}

function lavapipeInstalled(): boolean {
  return ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d'].some(
    (folder) => existsSync(folder) && readdirSync(folder).some((name) => name.startsWith('lvp_icd')),
  )
}

function installedVersion(name: string): string | undefined {
  const result = spawnSync('dpkg-query', ['-W', '-f=${Status}|${Version}', name], {
    encoding: 'utf8',
    timeout: 10_000,
  })
  if (result.status !== 0) return undefined
  const [status, version] = result.stdout.split('|')
  return status?.endsWith(' installed') === true ? version : undefined
}

/** The version apt would install, from its present lists. */
function candidateVersion(name: string, targetRelease: readonly string[]): string | undefined {
  const result = spawnSync('apt-cache', [...targetRelease, 'policy', name], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  const version = /Candidate:\s*(\S+)/.exec(result.stdout ?? '')?.[1]
  return version === '(none)' ? undefined : version
}

function recentEnough(version: string | undefined): boolean {
  return version !== undefined && (majorVersion(version) ?? 0) >= OLDEST_MESA
}

function apt(argumentList: readonly string[], timeout: number): void {
  execFileSync('apt-get', ['-o', 'Acquire::Retries=2', '-o', 'DPkg::Lock::Timeout=60', ...argumentList], {
    timeout,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
}

function readSources(): AptSource[] {
  const folder = '/etc/apt/sources.list.d'
  const files = ['/etc/apt/sources.list']
  if (existsSync(folder)) {
    for (const name of readdirSync(folder)) if (/\.(list|sources)$/.test(name)) files.push(join(folder, name))
  }
  return files
    .filter((file) => existsSync(file))
    .flatMap((file) => parseAptSources(readFileSync(file, 'utf8')))
}

function install(): string {
  const release = readFileSync('/etc/os-release', 'utf8')
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(release)?.[1]?.replaceAll('"', '')
  let problem = ''
  try {
    apt(['update'], UPDATE_TIMEOUT_MS)
  } catch (error) {
    problem = `apt-get update failed (${firstLine(error)}); `
  }
  if (recentEnough(candidateVersion(PACKAGES[0]!, []))) {
    apt(['install', '-y', '--no-install-recommends', ...PACKAGES], INSTALL_TIMEOUT_MS)
    return `installed ${PACKAGES.join(' ')} ${installedVersion(PACKAGES[0]!) ?? ''}`
  }
  const line = codename === undefined ? undefined : backportsLine(readSources(), codename)
  if (codename === undefined || line === undefined) {
    return `${problem}no package source here has Mesa ≥ ${OLDEST_MESA}: the wgsl tests will be skipped`
  }
  // The machine's own sources stay as they are: the backports suite is only known to these commands.
  const folder = mkdtempSync(join(tmpdir(), 'chorale-apt-'))
  try {
    const list = join(folder, 'backports.list')
    writeFileSync(list, `${line}\n`)
    apt(
      [
        '-o',
        `Dir::Etc::SourceList=${list}`,
        '-o',
        'Dir::Etc::SourceParts=-',
        '-o',
        'APT::Get::List-Cleanup=0',
        'update',
      ],
      UPDATE_TIMEOUT_MS,
    )
    const copy = join(folder, 'sources.list')
    const main = existsSync('/etc/apt/sources.list') ? readFileSync('/etc/apt/sources.list', 'utf8') : ''
    writeFileSync(copy, `${main}\n${line}\n`)
    apt(
      [
        '-o',
        `Dir::Etc::SourceList=${copy}`,
        'install',
        '-y',
        '--no-install-recommends',
        '-t',
        `${codename}-backports`,
        ...PACKAGES,
      ],
      INSTALL_TIMEOUT_MS,
    )
    return `installed ${PACKAGES.join(' ')} ${installedVersion(PACKAGES[0]!) ?? ''} from ${codename}-backports`
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function firstLine(error: unknown): string {
  const stderr = (error as { stderr?: Buffer }).stderr?.toString().trim()
  const text = stderr !== undefined && stderr !== '' ? stderr : String(error)
  return text.split('\n').find((line) => line.startsWith('E:')) ?? text.split('\n')[0] ?? ''
}

/** What the one line says. */
export function prepareSystem(): string {
  if (process.platform !== 'linux') return 'not Linux: the wgsl tests use the GPU there is, or are skipped'
  if (!existsSync('/usr/bin/dpkg-query')) {
    return lavapipeInstalled()
      ? 'lavapipe is here'
      : `install Mesa's Vulkan software driver (lavapipe, Mesa ≥ ${OLDEST_MESA}) for the wgsl tests; skipped until then`
  }
  const version = installedVersion(PACKAGES[0]!)
  if (recentEnough(version) && installedVersion(PACKAGES[1]!) !== undefined && lavapipeInstalled()) {
    return `lavapipe is here (Mesa ${version})`
  }
  if (process.getuid?.() !== 0) {
    return `lavapipe (Mesa ≥ ${OLDEST_MESA}) is missing, the wgsl tests will be skipped; fix: sudo node test/setup/install-system.ts`
  }
  return install()
}

/** Where tests look for a Chromium; `CHROMIUM_PATH` comes before all. */
const CHROMIUM_PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** What the line about Chromium says. */
export function prepareChromium(): string {
  const here = [process.env['CHROMIUM_PATH'], ...CHROMIUM_PLACES].find(
    (path) => path !== undefined && existsSync(path),
  )
  if (here !== undefined) return `Chromium is here (${here})`
  const skipped = 'the tests of the pages will be skipped'
  if (process.platform !== 'linux' || !existsSync('/usr/bin/dpkg-query')) {
    return `${skipped}; fix: install Chromium, or set CHROMIUM_PATH`
  }
  if (process.getuid?.() !== 0) {
    return `Chromium is missing, ${skipped}; fix: sudo node test/setup/install-system.ts`
  }
  if (candidateVersion('chromium', []) === undefined) apt(['update'], UPDATE_TIMEOUT_MS)
  // Ubuntu's package only points to a snap, which needs a running system.
  if (candidateVersion('chromium', []) === undefined) {
    return `no package source here has Chromium: ${skipped}; fix: install one and set CHROMIUM_PATH`
  }
  apt(['install', '-y', '--no-install-recommends', 'chromium'], INSTALL_TIMEOUT_MS)
  return `installed chromium ${installedVersion('chromium') ?? ''}`
}

if (import.meta.main) {
  const steps: readonly (readonly [prepare: () => string, failed: string])[] = [
    [prepareSystem, 'lavapipe could not be installed, the wgsl tests will be skipped'],
    [prepareChromium, 'Chromium could not be installed, the tests of the pages will be skipped'],
  ]
  for (const [prepare, failed] of steps) {
    try {
      console.log(`system: ${prepare()}`)
    } catch (error) {
      console.log(`system: ${failed}: ${firstLine(error)}`)
    }
  }
}
