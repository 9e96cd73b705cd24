import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'

const schema = z.object({
  model: z.string(),
  system: z.string().nullable(),
  messages: z.array(z.object({ role: z.enum(['user', 'assistant']), content: z.string() })).max(100_000),
})

/** A conversation as `/save` writes it. */
export type SavedChat = z.infer<typeof schema>

/** Bytes of a file that `/load` reads: it may be any file. */
const MAX_BYTES = 16 * 1024 * 1024

/** Where `name` is kept: a path when it looks like one, else a file in `folder`. @throws `bad_config`. */
export function savedChatPath(folder: string, name: string): string {
  if (name.includes('/') || name.endsWith('.json')) return name
  if (!/^[\w][\w.-]{0,63}$/.test(name)) {
    throw new ChoraleError(
      'bad_config',
      `"${name.slice(0, 80)}" is no name: use letters, digits, - and _, or a path`,
    )
  }
  return join(folder, `${name}.json`)
}

/** Writes the conversation, readable by its owner only. @throws `bad_config` when it can't be written. */
export async function saveChat(path: string, chat: SavedChat): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, `${JSON.stringify(chat, undefined, 1)}\n`, { mode: 0o600 })
  } catch (error) {
    throw new ChoraleError('bad_config', `can't write ${path}: ${errorMessage(error)}`, { cause: error })
  }
}

/** @throws `not_found`, `bad_file` naming the field. */
export async function loadChat(path: string): Promise<SavedChat> {
  const size = await stat(path).then(
    (info) => info.size,
    () => undefined,
  )
  if (size === undefined) throw new ChoraleError('not_found', `there is no ${path}`)
  if (size > MAX_BYTES)
    throw new ChoraleError('bad_file', `${path} has ${size} bytes, the limit is ${MAX_BYTES}`)
  let value: unknown
  try {
    value = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    throw new ChoraleError('bad_file', `${path} is no saved chat: ${errorMessage(error)}`, { cause: error })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new ChoraleError(
    'bad_file',
    `${path} is no saved chat: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`,
  )
}
