import { homedir, tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'

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
  const runtime = process.env['XDG_RUNTIME_DIR']
  if (runtime !== undefined && isAbsolute(runtime)) return join(runtime, 'chorale')
  return join(tmpdir(), `chorale-${process.getuid?.() ?? 'user'}`)
}

/** The specification says to ignore relative values. */
function xdg(variable: string, fallback: string): string {
  const value = process.env[variable]
  return value !== undefined && isAbsolute(value) ? value : join(homedir(), fallback)
}
