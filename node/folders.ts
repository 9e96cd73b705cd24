import { homedir, tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'

/** As the process found it: opening a GPU may set the variable for its driver, and the folder must not move then. */
const RUNTIME = process.env['XDG_RUNTIME_DIR']

/** Where pulled models are kept: `$XDG_CACHE_HOME/chorale`, by default `~/.cache/chorale`. XDG Base Directory 0.8. */
export function cacheFolder(): string {
  return join(xdg('XDG_CACHE_HOME', '.cache'), 'chorale')
}

/** Where chat history lives: `$XDG_STATE_HOME/chorale`, by default `~/.local/state/chorale`. */
export function stateFolder(): string {
  return join(xdg('XDG_STATE_HOME', '.local/state'), 'chorale')
}

/** Short-lived files of this user: `$XDG_RUNTIME_DIR/chorale`, else a folder of this user under the temporary folder. */
export function runtimeFolder(): string {
  if (RUNTIME !== undefined && isAbsolute(RUNTIME)) return join(RUNTIME, 'chorale')
  return join(tmpdir(), `chorale-${process.getuid?.() ?? 'user'}`)
}

/** The specification says to ignore relative values. */
function xdg(variable: string, fallback: string): string {
  const value = process.env[variable]
  return value !== undefined && isAbsolute(value) ? value : join(homedir(), fallback)
}
