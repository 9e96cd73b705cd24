import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { keyCommand } from '../../node/cli/key.ts'
import { ledgerCommand } from '../../node/cli/ledger.ts'
import { nodeCommand } from '../../node/cli/node.ts'
import { stakeCommand } from '../../node/cli/stake.ts'
import { subnetCommand } from '../../node/cli/subnet.ts'
import { type Devnet, startDevnet } from '../../node/cli/devnet/start-devnet.ts'
import { isChoraleError } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import { type Ran, startChorale } from './run-chorale.ts'

/** Verbs that touch keys and the ledger. */
const PEER = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

describe('chorale key, stake, subnet, node and ledger', () => {
  let folder: string
  let devnet: Devnet
  let env: Record<string, string>
  const before = { ...process.env }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chorale-ledger-'))
    devnet = await startDevnet({ mode: 'instant', port: 0, logger: silentLogger })
    env = {
      CHORALE_KEYS: join(folder, 'keys'),
      CHORALE_KEY_PASSWORD: 'a password',
      CHORALE_LEDGER_URL: devnet.url,
    }
    Object.assign(process.env, env)
  })
  afterAll(async () => {
    process.env = before
    await devnet.close()
    await rm(folder, { recursive: true })
  })

  afterEach(() => vi.restoreAllMocks())

  /** Runs a verb in this process, which has loaded everything already; what main() makes of errors is done here. */
  async function chorale(...args: string[]): Promise<Ran> {
    let out = ''
    let err = ''
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true))
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true))
    const program = new Command('chorale')
    for (const verb of [keyCommand(), ledgerCommand(), nodeCommand(), stakeCommand(), subnetCommand()])
      program.addCommand(verb)
    try {
      await program.parseAsync(args, { from: 'user' })
      return { code: 0, out, err }
    } catch (error) {
      if (!isChoraleError(error)) throw error
      return { code: error.code === 'bad_config' ? 2 : 1, out, err: `${err}${error.message}` }
    } finally {
      vi.restoreAllMocks()
    }
  }

  it('key new, import, list, show: encrypted files of this user alone', async () => {
    const [made, identity] = [
      await chorale('key', 'new', 'hotkey', '--name', 'worker', '--yes', '--json'),
      await chorale('key', 'new', 'libp2p', '--name', 'server', '--json'),
    ]
    const key = JSON.parse(made.out) as { address: string; file: string; mnemonic: string }
    expect(key).toMatchObject({ name: 'worker', role: 'hotkey', kind: 'ethereum' })
    expect(key.mnemonic.split(' ')).toHaveLength(12)
    expect((await stat(key.file)).mode & 0o777).toBe(0o600)
    expect(await readFile(key.file, 'utf8')).not.toContain(key.mnemonic)
    expect(JSON.parse(identity.out)).toMatchObject({
      role: 'libp2p',
      peerId: expect.stringMatching(/^12D3/) as string,
    })
    const words = join(folder, 'words.txt')
    await writeFile(words, `${key.mnemonic}\n`)
    const [again, imported, json] = [
      await chorale('key', 'new', 'hotkey', '--name', 'worker', '--yes'),
      await chorale('key', 'import', 'coldkey', '--name', 'savings', '--secret-file', words),
      await chorale('key', 'show', 'worker', '--json'),
    ]
    expect(again).toMatchObject({
      code: 2,
      err: expect.stringMatching(/there is a key worker already/) as string,
    })
    expect(again.err).not.toMatch(/Write these words/)
    expect(imported.out).toContain(key.address)
    expect(JSON.parse(json.out)).toMatchObject({ address: key.address, role: 'hotkey' })
    const list = await chorale('key', 'list', '--json')
    expect((JSON.parse(list.out) as { keys: { name: string }[] }).keys.map(({ name }) => name)).toEqual([
      'savings',
      'worker',
    ])
    expect((await readdir(env['CHORALE_KEYS'] ?? '')).some((name) => name.endsWith('.new'))).toBe(false)
  }, 60_000)

  it('a subnet is registered, staked in and left by verbs alone', async () => {
    const coldkeys = ['dev:alith', 'dev:baltathar', 'dev:charleth']
    const register = [
      'subnet',
      'register',
      '--dev',
      'alith',
      '--name',
      'verbs',
      '--repo',
      'https://example.org/verbs',
    ]
    const lists = ['--coldkeys', ...coldkeys, '--bootnodes', `/ip4/127.0.0.1/tcp/1/p2p/${PEER}`]
    const asked = await chorale(...register, ...lists)
    expect(asked).toMatchObject({
      code: 2,
      err: expect.stringMatching(/Register subnet verbs[^]*amount.*TENSOR[^]*give --yes/) as string,
    })
    const made = await chorale(...register, ...lists, '--yes')
    expect(made, made.err).toMatchObject({
      code: 0,
      out: expect.stringMatching(/subnet verbs has id 128001/) as string,
    })
    const node = ['node', 'register', '--dev', 'alith', '--hotkey', 'worker', '--peer', PEER, '--yes']
    expect((await chorale(...node)).out).toMatch(/node 1 is Validator/)
    const [bond, over] = [
      await chorale('stake', 'bond', '50.5', '--dev', 'alith', '--yes', '--json'),
      await chorale('stake', 'delegate', '100000000', '--dev', 'baltathar', '--yes'),
    ]
    expect(JSON.parse(bond.out)).toMatchObject({
      call: 'Network.add_stake',
      fee: expect.stringMatching(/^\d+$/) as string,
    })
    expect(over.err).toMatch(/has 1000000 TENSOR and needs 100000000\..*move .* to it first/)
    const delegated = await chorale('stake', 'delegate', '10', '--dev', 'baltathar', '--yes')
    expect(delegated.code, delegated.err).toBe(0)
    const [status, delegator, below, show] = [
      await chorale('stake', 'status', 'dev:alith', '--json'),
      await chorale('stake', 'status', 'dev:baltathar'),
      await chorale('stake', 'unbond', '60', '--dev', 'alith', '--yes'),
      await chorale('subnet', 'show', 'verbs'),
    ]
    expect(JSON.parse(status.out)).toMatchObject({
      nodes: [{ node: 1, stake: '150500000000000000000', as: 'coldkey' }],
    })
    expect(delegator.out).toMatch(/delegated {2}9\.9{10,}\d* TENSOR to verbs/)
    expect(below.err).toMatch(/must keep 100 TENSOR and would have 90\.5 TENSOR: take at most 50\.5 TENSOR/)
    expect(show.out).toMatch(/verbs \(128001\)[^]*node 1 +Validator +150\.5 TENSOR/)
    const out = await chorale('stake', 'undelegate', 'all', '--dev', 'baltathar', '--yes')
    expect(out.code, out.err).toBe(0)
    const early = await chorale('stake', 'claim', '--dev', 'baltathar', '--yes')
    expect(early.err).toMatch(/nothing to claim yet: 9\.9\d+ TENSOR in \d+ blocks/)
    devnet.node.build(25)
    const claimed = await chorale('stake', 'claim', '--dev', 'baltathar', '--yes')
    expect(claimed, claimed.err).toMatchObject({
      code: 0,
      out: expect.stringMatching(/done in block/) as string,
    })
  }, 120_000)

  it('ledger conformance --json: every step by the rules, nothing else printed', async () => {
    const running = startChorale(['ledger', 'conformance', '--json'], env)
    const ran = await running.ended
    const report = JSON.parse(ran.out) as {
      chain: string
      ok: boolean
      steps: { name: string; ok: boolean }[]
    }
    expect(report).toMatchObject({ chain: 'Chorale Development', ok: true })
    expect(report.steps.length).toBeGreaterThan(10)
    expect(ran).toMatchObject({ code: 0, err: '' })
  }, 60_000)

  it('bad input ends with a clear error', async () => {
    const open = join(folder, 'open.key.json')
    await writeFile(open, '{}', { mode: 0o644 })
    const cases: [string[], number, RegExp][] = [
      [['stake', 'status', 'dev:alith', '--url', 'http://127.0.0.1:1'], 2, /is no ledger URL: give ws:/],
      [
        ['stake', 'status', 'dev:alith', '--url', 'ws://127.0.0.1:1'],
        1,
        /no ledger node at ws:\/\/127.0.0.1:1/,
      ],
      [['stake', 'bond', '1'], 2, /who signs\? give --key NAME/],
      [['stake', 'bond', 'ten', '--dev', 'alith'], 2, /amount ten: give tokens like 100/],
      [['key', 'show', 'nobody'], 1, /there is no key nobody/],
      [['key', 'show', open], 1, /can be read by others: chmod 600/],
      [
        ['node', 'register', '--dev', 'alith', '--hotkey', 'dev:faith', '--peer', 'me'],
        2,
        /--peer me is no peer id/,
      ],
      [['subnet', 'show', 'elsewhere'], 1, /no subnet elsewhere/],
    ]
    for (const [args, code, message] of cases) {
      const ran = await chorale(...args)
      expect(ran.err, args.join(' ')).toMatch(message)
      expect(ran.code, args.join(' ')).toBe(code)
    }
  }, 90_000)
})
