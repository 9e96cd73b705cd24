import { describe, expect, it } from 'vitest'
import { backportsLine, majorVersion, parseAptSources, prepareSystem } from './install-system.ts'

const DEB822 = `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`

describe('majorVersion', () => {
  it('reads Debian version strings', () => {
    expect(majorVersion('22.3.6-1+deb12u1')).toBe(22)
    expect(majorVersion('1:25.0.7-2~bpo12+1\n')).toBe(25)
    expect(majorVersion('')).toBeUndefined()
  })
})

describe('backportsLine', () => {
  it('uses the mirror and key of a deb822 source, not the security one', () => {
    expect(backportsLine(parseAptSources(DEB822), 'bookworm')).toBe(
      'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm-backports main',
    )
  })

  it('uses a one-line source', () => {
    const text =
      '# deb http://old.example/debian bookworm main\ndeb http://mirror.example/debian bookworm main contrib\n'
    expect(backportsLine(parseAptSources(text), 'bookworm')).toBe(
      'deb http://mirror.example/debian bookworm-backports main',
    )
  })

  it('gives up where no source carries the release', () => {
    expect(backportsLine(parseAptSources(DEB822), 'noble')).toBeUndefined()
  })
})

describe('prepareSystem', () => {
  // Only asks the package database: whoever runs the tests has run the installation before, or can't.
  it.skipIf(process.getuid?.() === 0 && process.platform === 'linux')(
    'says something as an ordinary user',
    () => {
      expect(prepareSystem()).not.toBe('')
    },
  )
})
