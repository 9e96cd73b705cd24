import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readIdentityFile } from '../../node/identity-file.ts'
import { readLocalSwarm, removeLocalSwarm, writeLocalSwarm } from '../../node/local-swarm-file.ts'

let folder: string
let path: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-test-'))
  path = join(folder, 'run', 'swarm.json')
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

describe('local swarm file', () => {
  const swarm = { bootstrap: ['/ip4/127.0.0.1/tcp/1/p2p/x'], gateway: 'http://127.0.0.1:8787' }

  it('comes back as it was written, readable by this user only, and goes', async () => {
    expect(await readLocalSwarm(path)).toBeUndefined()
    await writeLocalSwarm(swarm, path)
    expect(await readLocalSwarm(path)).toEqual({ ...swarm, pid: process.pid })
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await removeLocalSwarm(path)
    await removeLocalSwarm(path)
    expect(await readLocalSwarm(path)).toBeUndefined()
  })

  it('of a process that ended is removed, of another living one is left alone', async () => {
    await writeLocalSwarm(swarm, path)
    const { pid } = spawnSync(process.execPath, ['--version'])
    await writeFile(path, JSON.stringify({ ...swarm, pid }))
    expect(await readLocalSwarm(path)).toBeUndefined()
    await expect(stat(path)).rejects.toThrow(/ENOENT/)
    await writeFile(path, JSON.stringify({ ...swarm, pid: process.ppid }))
    await removeLocalSwarm(path)
    expect((await readLocalSwarm(path))?.pid).toBe(process.ppid)
  })

  it.each(['', '{', 'null', '[]', '{"pid":"1","bootstrap":[]}', '{"pid":1}', '{"pid":0,"bootstrap":[]}'])(
    'with %j in it counts as none',
    async (text) => {
      await writeLocalSwarm(swarm, path)
      await writeFile(path, text)
      expect(await readLocalSwarm(path)).toBeUndefined()
    },
  )
})

describe('readIdentityFile', () => {
  it('makes a key once and reads it afterwards', async () => {
    const file = join(folder, 'keys', 'peer.key')
    const first = await readIdentityFile(file)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await readIdentityFile(file)).peerId).toBe(first.peerId)
    expect(await readFile(file, 'utf8')).toMatch(/^[0-9a-f]{64}\n$/)
  })

  it('refuses a file that holds something else', async () => {
    const file = join(folder, 'peer.key')
    await writeFile(file, 'not a key')
    await expect(readIdentityFile(file)).rejects.toMatchObject({ code: 'bad_file' })
  })
})
