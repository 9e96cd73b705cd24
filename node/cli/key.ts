import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { encryptKey, type KeyKind, type KeyRole } from '../../src/ledger/keys/key-file.ts'
import {
  keyFromMnemonic,
  keyFromPolkadotJson,
  keyFromSeed,
  type LedgerKey,
  newMnemonic,
} from '../../src/ledger/substrate/key-derivation.ts'
import { readIdentityFile } from '../identity-file.ts'
import { assertFreeName, keyFolder, keyPath, listKeys, readKey, writeKey } from '../keystore-files.ts'
import { askHidden, chooseNewPassword } from './key/password.ts'
import { askYes, createStyle, write } from './terminal.ts'

interface KeyFlags {
  name?: string
  kind?: string
  path?: string
  passwordFile?: string
  secretFile?: string
  json?: boolean
  yes?: boolean
}

type Role = KeyRole | 'libp2p'

const ROLES: readonly Role[] = ['hotkey', 'coldkey', 'libp2p']
const KINDS: readonly KeyKind[] = ['ethereum', 'sr25519', 'ed25519', 'ecdsa']
/** Longest file taken as a secret: an export of a wallet. */
const MAX_SECRET_CHARS = 16_384

/** `chorale key`: the keys of peers and ledger accounts. */
export function keyCommand(): Command {
  const command = new Command('key').description('make, show, list and import keys')
  const options = (verb: Command): Command =>
    verb
      .option('--name <name>', 'what the key is called here (default: its role)')
      .option('--password-file <file>', 'file whose first line is the password (or set CHORALE_KEY_PASSWORD)')
      .option('--json', 'print one JSON document')
  command.addCommand(
    options(new Command('new'))
      .description('make a key: 12 words are shown once, the key is kept encrypted')
      .argument('<role>', 'hotkey (signs for a node), coldkey (owns money), libp2p (a peer id)')
      .option('--kind <kind>', 'ethereum, sr25519, ed25519 or ecdsa: what the chain uses', 'ethereum')
      .option('--path <path>', "derivation path (ethereum default: m/44'/60'/0'/0/0)")
      .option('-y, --yes', 'the words will be kept: do not ask')
      .addHelpText(
        'after',
        '\nExamples:\n  chorale key new coldkey --name savings\n  chorale key new hotkey --json --yes --password-file pw.txt\n' +
          '  chorale key new libp2p --name server1',
      )
      .action(runNew),
  )
  command.addCommand(
    options(new Command('import'))
      .description('keep a key that exists: from words, a hex seed, or a file exported by polkadot-js')
      .argument('<role>', 'hotkey or coldkey')
      .option(
        '--kind <kind>',
        'ethereum, sr25519, ed25519 or ecdsa (an exported file says so itself)',
        'ethereum',
      )
      .option('--path <path>', "derivation path (ethereum default for words: m/44'/60'/0'/0/0)")
      .option(
        '--secret-file <file>',
        'words, 0x-hex seed or exported JSON (default: what is piped in, or asked for)',
      )
      .addHelpText(
        'after',
        "\nAn exported file's own password is asked for, or taken from CHORALE_IMPORT_PASSWORD.\n" +
          '\nExamples:\n  chorale key import coldkey --name savings\n  chorale key import hotkey --kind sr25519 --secret-file export.json',
      )
      .action(runImport),
  )
  command.addCommand(
    new Command('show')
      .description("show a key's address; nothing is decrypted")
      .argument('<name>', 'name, or path of a key file')
      .option('--json', 'print one JSON document')
      .addHelpText('after', '\nExample:\n  chorale key show savings')
      .action(runShow),
  )
  command.addCommand(
    new Command('list')
      .description('list the keys of this user')
      .option('--json', 'print one JSON document')
      .addHelpText('after', `\nKeys lie in ${keyFolder()} (set CHORALE_KEYS for another folder).`)
      .action(runList),
  )
  return command
}

async function runNew(roleText: string, flags: KeyFlags): Promise<void> {
  const role = roleOf(roleText)
  if (role === 'libp2p') return newIdentity(flags)
  const kind = kindOf(flags.kind ?? 'ethereum')
  const name = flags.name ?? role
  await assertFreeName(name)
  const words = newMnemonic()
  const key = keyFromMnemonic(words, kind, flags.path)
  const password = await chooseNewPassword(flags)
  if (flags.json !== true) {
    const style = createStyle(process.stderr)
    process.stderr.write(
      `\n${style.bold(words)}\n\nWrite these words down and keep them away from this machine: they are shown this once,\n` +
        'and whoever has them has the key.\n\n',
    )
  }
  if (flags.yes !== true && !(await askYes('Have you written them down?'))) {
    throw new ChoraleError(
      'bad_config',
      process.stdin.isTTY
        ? 'nothing was kept; those words are of no use now'
        : 'nobody to ask whether the words were written down: give --yes',
      { field: 'yes' },
    )
  }
  await keep(role, name, key, password, flags, words)
}

/** A peer identity is a file of hex that `--identity` reads: servers start without anybody to type a password. */
async function newIdentity(flags: KeyFlags): Promise<void> {
  const name = flags.name ?? 'libp2p'
  keyPath(name)
  const path = join(keyFolder(), `${name}.identity`)
  const { peerId } = await readIdentityFile(path)
  const text =
    flags.json === true
      ? `${JSON.stringify({ name, role: 'libp2p', peerId, file: path })}\n`
      : `peer id  ${peerId}\nfile     ${path} (not encrypted, readable by you alone)\n`
  await write(process.stdout, text)
}

async function runImport(roleText: string, flags: KeyFlags): Promise<void> {
  const role = roleOf(roleText)
  if (role === 'libp2p') {
    throw new ChoraleError(
      'bad_config',
      'a libp2p identity is a file of 64 hex digits: give it to --identity as it is',
      {
        field: 'role',
      },
    )
  }
  const name = flags.name ?? role
  await assertFreeName(name)
  const secret = (await readSecret(flags)).trim()
  const key = await understand(secret, flags)
  await keep(role, name, key, await chooseNewPassword(flags), flags, undefined)
}

async function understand(secret: string, flags: KeyFlags): Promise<LedgerKey> {
  if (secret.startsWith('{')) {
    const set = process.env['CHORALE_IMPORT_PASSWORD']
    return keyFromPolkadotJson(secret, set ?? (await askHidden('Password of the exported file: ')))
  }
  const kind = kindOf(flags.kind ?? 'ethereum')
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(secret)) {
    const seed = Uint8Array.from(Buffer.from(secret.replace(/^0x/, ''), 'hex'))
    return keyFromSeed(seed, kind, flags.path)
  }
  return keyFromMnemonic(secret, kind, flags.path)
}

async function readSecret(flags: KeyFlags): Promise<string> {
  let text: string
  if (flags.secretFile !== undefined) text = await readFile(flags.secretFile, 'utf8')
  else if (process.stdin.isTTY) text = await askHidden('Words or hex seed: ')
  else {
    text = ''
    for await (const chunk of process.stdin) {
      text += String(chunk)
      if (text.length > MAX_SECRET_CHARS) break
    }
  }
  if (text.length > MAX_SECRET_CHARS) {
    throw new ChoraleError('limit', `a secret has at most ${MAX_SECRET_CHARS} characters`, {
      field: 'secret',
    })
  }
  return text
}

async function keep(
  role: KeyRole,
  name: string,
  key: LedgerKey,
  password: string,
  flags: KeyFlags,
  mnemonic: string | undefined,
): Promise<void> {
  const created = new Date().toISOString()
  const file = await encryptKey({ role, kind: key.kind, address: key.address, created }, key.secret, password)
  const path = await writeKey(name, file)
  const said = { name, role, kind: key.kind, address: key.address, file: path }
  const text =
    flags.json === true
      ? `${JSON.stringify({ ...said, ...(mnemonic !== undefined && { mnemonic }) })}\n`
      : `${role} ${name}\naddress  ${key.address}\nfile     ${path}\n`
  await write(process.stdout, text)
}

async function runShow(name: string, flags: KeyFlags): Promise<void> {
  const { file, path, name: called } = await readKey(name)
  const { role, kind, address, created } = file
  const text =
    flags.json === true
      ? `${JSON.stringify({ name: called, role, kind, address, created, file: path })}\n`
      : `${role} ${called}\naddress  ${address}\nkind     ${kind}\ncreated  ${created}\nfile     ${path}\n`
  await write(process.stdout, text)
}

async function runList(flags: KeyFlags): Promise<void> {
  const keys = await listKeys((path, why) => process.stderr.write(`skipped ${path}: ${why}\n`))
  const rows = keys.map(({ name, file }) => ({
    name,
    role: file.role,
    kind: file.kind,
    address: file.address,
  }))
  if (flags.json === true) return write(process.stdout, `${JSON.stringify({ keys: rows })}\n`)
  if (rows.length === 0) {
    return write(process.stdout, 'no keys yet: chorale key new coldkey makes the first\n')
  }
  const width = Math.max(...rows.map(({ name }) => name.length))
  const lines = rows.map(
    ({ name, role, kind, address }) =>
      `${name.padEnd(width)}  ${role.padEnd(7)}  ${kind.padEnd(8)}  ${address}\n`,
  )
  await write(process.stdout, lines.join(''))
}

function roleOf(text: string): Role {
  const role = ROLES.find((one) => one === text)
  if (role === undefined) {
    throw new ChoraleError('bad_config', `${text} is no role: ${ROLES.join(', ')} are`, { field: 'role' })
  }
  return role
}

function kindOf(text: string): KeyKind {
  const kind = KINDS.find((one) => one === text)
  if (kind === undefined) {
    throw new ChoraleError('bad_config', `--kind ${text}: ${KINDS.join(', ')} are known`, { field: 'kind' })
  }
  return kind
}
