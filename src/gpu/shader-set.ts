import { ChoraleError } from '../errors.ts'

/** WGSL sources by path relative to `shaders/`. The core never loads files: a platform hands them over. */
export type ShaderSources = ReadonlyMap<string, string>

const INCLUDE = /^\/\/ include: (\S+)$/gm

/**
 * A kernel's whole source: prelude files, constants, then the kernel with its `// include: lib/x.wgsl` lines
 * resolved one level deep (a library includes nothing). Line numbers in compiler messages are of this text.
 * @param preludes library files that the host chooses, e.g. a weight format.
 * @param constants become `const NAME = 4u;`.
 * @throws `engine` naming a file that is missing.
 */
export function resolveShader(
  shaders: ShaderSources,
  path: string,
  preludes: readonly string[] = [],
  constants: Readonly<Record<string, number>> = {},
): string {
  const kernel = source(shaders, path)
  const included = [...kernel.matchAll(INCLUDE)].map((match) => match[1] as string)
  const parts = [...new Set([...preludes, ...included])].map((name) => source(shaders, name))
  for (const [name, value] of Object.entries(constants)) parts.push(`const ${name} = ${value}u;`)
  parts.push(kernel)
  return parts.join('\n')
}

function source(shaders: ShaderSources, path: string): string {
  const text = shaders.get(path)
  if (text === undefined) {
    throw new ChoraleError('engine', `shader ${path} is missing; the installation is incomplete`)
  }
  return text
}
