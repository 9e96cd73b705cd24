import { appendFile, chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Lines typed at the prompt, kept between chats. What people type is private: only its owner may read the file. */
export interface HistoryFile {
  /** Newest first; empty when there is none yet. */
  load(): Promise<readonly string[]>
  append(line: string): Promise<void>
}

const MAX_LINES = 1000
/** Characters of a line that are kept: a pasted book is no history. */
const MAX_LINE = 4000

/** History at `path`, mode 0600. A file that can't be read or written is no reason not to chat: it is left alone. */
export function createHistoryFile(path: string): HistoryFile {
  return {
    load: async () => {
      const text = await readFile(path, 'utf8').catch(() => '')
      const lines = text.split('\n').filter((line) => line !== '')
      const kept = lines.slice(-MAX_LINES)
      // Now and then, so that the file stays short without being rewritten for each line.
      if (lines.length > 2 * MAX_LINES) {
        await writeFile(path, `${kept.join('\n')}\n`, { mode: 0o600 }).catch(() => undefined)
      }
      return kept.reverse()
    },
    append: async (line) => {
      if (line.trim() === '' || line.length > MAX_LINE) return
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
        await appendFile(path, `${line}\n`, { mode: 0o600 })
        await chmod(path, 0o600)
      } catch {
        // A full or read-only disk must not end the chat.
      }
    },
  }
}
