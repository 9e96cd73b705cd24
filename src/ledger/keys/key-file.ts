import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { scryptAsync } from '@noble/hashes/scrypt.js'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../../errors.ts'

/** What a key is for. A coldkey owns money and stays away from servers; a hotkey signs a node's daily calls. */
export type KeyRole = 'hotkey' | 'coldkey'
/** How a key signs. */
export type KeyKind = 'ethereum' | 'sr25519' | 'ed25519' | 'ecdsa'

/** An encrypted key, as a file of JSON. Everything but the secret is readable without the password, and bound to it. */
export interface KeyFile {
  readonly version: 1
  readonly role: KeyRole
  readonly kind: KeyKind
  /** As the chain prints it: 0x-hex for `ethereum`, SS58 of prefix 42 for others. */
  readonly address: string
  /** ISO 8601. */
  readonly created: string
  readonly crypto: {
    readonly kdf: 'scrypt'
    readonly n: number
    readonly r: number
    readonly p: number
    /** Hex. */
    readonly salt: string
    readonly cipher: 'xchacha20-poly1305'
    readonly nonce: string
    readonly ciphertext: string
  }
}

/** Cost of the password's derivation: 128 · n · r bytes of memory (128 MiB), about half a second. RFC 7914; OWASP 2023. */
export const SCRYPT = { n: 2 ** 17, r: 8, p: 1 } as const

/** Defend against files of others that would take all memory or hours: at most 512 MiB, 4 times our work. */
const MAX_N = 2 ** 20
const MAX_MEMORY = 512 * 1024 * 1024
const MAX_WORK = 4 * SCRYPT.n * SCRYPT.r * SCRYPT.p
/** A cost below this protects nothing. */
const MIN_N = 2 ** 10
/** Longest file read as a key: ours have 600 characters. */
const MAX_FILE_CHARS = 16_384
const MAX_PASSWORD_CHARS = 1024
const SALT_BYTES = 32
const NONCE_BYTES = 24
const TAG_BYTES = 16
const KEY_BYTES = 32
/** The longest secret: an sr25519 pair. */
const MAX_SECRET_BYTES = 96

const ROLES: readonly KeyRole[] = ['hotkey', 'coldkey']
const KINDS: readonly KeyKind[] = ['ethereum', 'sr25519', 'ed25519', 'ecdsa']
const utf8 = new TextEncoder()

/** Encrypts a secret. @throws `bad_request` for an empty or overlong password. */
export async function encryptKey(
  key: Omit<KeyFile, 'version' | 'crypto'>,
  secret: Uint8Array,
  password: string,
  cost: { readonly n: number; readonly r: number; readonly p: number } = SCRYPT,
): Promise<KeyFile> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES))
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES))
  const open = {
    version: 1,
    role: key.role,
    kind: key.kind,
    address: key.address,
    created: key.created,
  } as const
  const derived = await derive(password, salt, cost)
  const ciphertext = xchacha20poly1305(derived, nonce, bound(open)).encrypt(secret)
  return {
    ...open,
    crypto: {
      kdf: 'scrypt',
      ...cost,
      salt: bytesToHex(salt),
      cipher: 'xchacha20-poly1305',
      nonce: bytesToHex(nonce),
      ciphertext: bytesToHex(ciphertext),
    },
  }
}

/** The secret. @throws `refused` for a wrong password, or when readable fields were changed. */
export async function decryptKey(file: KeyFile, password: string): Promise<Uint8Array> {
  const { crypto: box } = file
  const key = await derive(password, unhex(box.salt, 'salt'), box)
  try {
    return xchacha20poly1305(key, unhex(box.nonce, 'nonce'), bound(file)).decrypt(
      unhex(box.ciphertext, 'ciphertext'),
    )
  } catch {
    throw new ChoraleError(
      'refused',
      `wrong password for ${file.role} ${file.address}, or its file was changed`,
      {
        field: 'password',
      },
    )
  }
}

/** Reads a key file; nothing is decrypted. @throws `bad_file` naming the field, `limit` for costs beyond reason. */
export function parseKeyFile(json: string): KeyFile {
  if (json.length > MAX_FILE_CHARS) {
    throw new ChoraleError(
      'limit',
      `a key file has at most ${MAX_FILE_CHARS} characters, this one ${json.length}`,
    )
  }
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    throw new ChoraleError('bad_file', 'the key file is no JSON', { cause: error })
  }
  const file = record(value, 'key file')
  if (file['version'] !== 1) {
    throw new ChoraleError('bad_file', `version ${String(file['version'])} of key files is not known: 1 is`, {
      field: 'version',
    })
  }
  const box = record(file['crypto'], 'crypto')
  const cost = { n: whole(box, 'n'), r: whole(box, 'r'), p: whole(box, 'p') }
  checkCost(cost)
  return {
    version: 1,
    role: oneOf(file, 'role', ROLES),
    kind: oneOf(file, 'kind', KINDS),
    address: text(file, 'address', /^[0-9A-Za-z]{2,64}$/),
    created: text(file, 'created', /^\d{4}-\d\d-\d\dT[\d:.]{8,15}Z$/),
    crypto: {
      kdf: oneOf(box, 'kdf', ['scrypt'] as const),
      ...cost,
      salt: bytes(box, 'salt', 8, 64),
      cipher: oneOf(box, 'cipher', ['xchacha20-poly1305'] as const),
      nonce: bytes(box, 'nonce', NONCE_BYTES, NONCE_BYTES),
      ciphertext: bytes(box, 'ciphertext', TAG_BYTES + 1, TAG_BYTES + MAX_SECRET_BYTES),
    },
  }
}

/** Verbs that run on servers call this with the key they were given. @throws `refused` for a coldkey. */
export function assertNotColdkey(
  key: { readonly role: KeyRole; readonly address: string },
  verb: string,
): void {
  if (key.role !== 'coldkey') return
  throw new ChoraleError(
    'refused',
    `${verb} runs on a server and ${key.address} is a coldkey, which owns the money: use its hotkey (chorale key new hotkey)`,
    { field: 'key' },
  )
}

/** What the ciphertext is bound to: a coldkey's file can't be passed off as a hotkey's. */
function bound({ version, role, kind, address, created }: Omit<KeyFile, 'crypto'>): Uint8Array {
  return utf8.encode(JSON.stringify(['chorale key', version, role, kind, address, created]))
}

async function derive(
  password: string,
  salt: Uint8Array,
  cost: { readonly n: number; readonly r: number; readonly p: number },
): Promise<Uint8Array> {
  if (password === '') throw new ChoraleError('bad_request', 'a password is needed', { field: 'password' })
  if (password.length > MAX_PASSWORD_CHARS) {
    throw new ChoraleError('limit', `a password has at most ${MAX_PASSWORD_CHARS} characters`, {
      field: 'password',
    })
  }
  checkCost(cost)
  // NFKC: the same password typed on two keyboards is the same bytes.
  return scryptAsync(utf8.encode(password.normalize('NFKC')), salt, {
    N: cost.n,
    r: cost.r,
    p: cost.p,
    dkLen: KEY_BYTES,
    maxmem: MAX_MEMORY + 1024 * 1024,
  })
}

function checkCost({ n, r, p }: { readonly n: number; readonly r: number; readonly p: number }): void {
  const power = Number.isInteger(Math.log2(n))
  if (
    !power ||
    n < MIN_N ||
    n > MAX_N ||
    r < 1 ||
    p < 1 ||
    128 * n * r > MAX_MEMORY ||
    n * r * p > MAX_WORK
  ) {
    throw new ChoraleError(
      'limit',
      `the key file asks for scrypt with n=${n} r=${r} p=${p}: n is a power of two of ${MIN_N} to ${MAX_N}, at most 512 MiB and ${MAX_WORK} steps`,
      { field: 'crypto' },
    )
  }
}

function record(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ChoraleError('bad_file', `${field} is no object`, { field })
  }
  return value as Readonly<Record<string, unknown>>
}

function oneOf<T extends string>(
  from: Readonly<Record<string, unknown>>,
  field: string,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === from[field])
  if (found === undefined) {
    throw new ChoraleError(
      'bad_file',
      `${field} of the key file is ${String(from[field]).slice(0, 40)}: it must be ${choices.join(' or ')}`,
      { field },
    )
  }
  return found
}

function text(from: Readonly<Record<string, unknown>>, field: string, shape: RegExp): string {
  const value = from[field]
  if (typeof value !== 'string' || !shape.test(value)) {
    throw new ChoraleError('bad_file', `${field} of the key file is not as it should be`, { field })
  }
  return value
}

function whole(from: Readonly<Record<string, unknown>>, field: string): number {
  const value = from[field]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    throw new ChoraleError('bad_file', `${field} of the key file is no whole number above 0`, { field })
  }
  return value
}

function bytes(from: Readonly<Record<string, unknown>>, field: string, least: number, most: number): string {
  const value = from[field]
  const good = typeof value === 'string' && /^(?:[0-9a-f]{2})+$/.test(value)
  if (!good || value.length < 2 * least || value.length > 2 * most) {
    throw new ChoraleError('bad_file', `${field} of the key file is no hex of ${least} to ${most} bytes`, {
      field,
    })
  }
  return value
}

function unhex(data: string, field: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/.test(data)) throw new ChoraleError('bad_file', `${field} is no hex`, { field })
  return hexToBytes(data)
}
