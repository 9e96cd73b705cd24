import { readFile } from 'node:fs/promises'
import { ChoraleError } from '../../../src/errors.ts'

/** Where a password comes from: never from the command line, which other users of the machine can read. */
export const PASSWORD_VARIABLE = 'CHORALE_KEY_PASSWORD'

/** Longest password file and typed line. */
const MAX_CHARS = 1024

export interface PasswordSource {
  /** File whose first line it is. */
  readonly passwordFile?: string
}

/**
 * The password: from a file, from CHORALE_KEY_PASSWORD, or asked for on the terminal.
 * @throws `bad_config` when there is none of these.
 */
export async function readPassword(source: PasswordSource, question: string): Promise<string> {
  if (source.passwordFile !== undefined) {
    const text = await readFile(source.passwordFile, 'utf8').catch((error: unknown) => {
      throw new ChoraleError('bad_config', `--password-file ${source.passwordFile ?? ''} can't be read`, {
        cause: error,
        field: 'password-file',
      })
    })
    return text.slice(0, MAX_CHARS + 2).split(/\r?\n/)[0] ?? ''
  }
  const set = process.env[PASSWORD_VARIABLE]
  if (set !== undefined && set !== '') return set
  return askHidden(question)
}

/** A new password: typed twice when it is typed. @throws `bad_config` when both differ. */
export async function chooseNewPassword(source: PasswordSource): Promise<string> {
  const first = await readPassword(source, 'New password: ')
  const typed = source.passwordFile === undefined && (process.env[PASSWORD_VARIABLE] ?? '') === ''
  if (typed && (await askHidden('The same again: ')) !== first) {
    throw new ChoraleError('bad_config', 'the passwords differ: nothing was written', { field: 'password' })
  }
  return first
}

/** Asks on the terminal without showing what is typed. @throws `bad_config` where there is no terminal. */
export async function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process
  if (!stdin.isTTY) {
    throw new ChoraleError(
      'bad_config',
      `a password is needed: set ${PASSWORD_VARIABLE}, or give --password-file FILE`,
      { field: 'password' },
    )
  }
  stderr.write(question)
  stdin.setRawMode(true)
  stdin.resume()
  try {
    return await new Promise<string>((resolve, reject) => {
      let line = ''
      const onData = (chunk: Buffer): void => {
        for (const char of chunk.toString('utf8')) {
          if (char === '\r' || char === '\n') return end(() => resolve(line))
          if (char === '\u0003') return end(() => reject(new ChoraleError('cancelled', 'cancelled')))
          if (char === '\u007F' || char === '\b') line = line.slice(0, -1)
          else if (line.length < MAX_CHARS) line += char
        }
      }
      const end = (finish: () => void): void => {
        stdin.off('data', onData)
        finish()
      }
      stdin.on('data', onData)
    })
  } finally {
    stdin.setRawMode(false)
    stdin.pause()
    stderr.write('\n')
  }
}
