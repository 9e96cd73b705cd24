import { basename } from 'node:path'
import { ChoraleError } from '../../../src/errors.ts'

/** For commander: a flag that may be repeated. */
export function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}

/** What a flag says: for every model, and for some by name. */
export interface PerModel {
  /** The value without a name. */
  readonly common: string | undefined
  /** By the model's place on the command line. */
  readonly named: ReadonlyMap<number, string>
}

/**
 * Reads a flag given as `VALUE` for all models or as `MODEL=VALUE` for one, MODEL as on the command line or its last part.
 * @throws `bad_config` for a model that is not served, and for two values of one.
 */
export function readPerModel(flag: string, texts: readonly string[], models: readonly string[]): PerModel {
  let common: string | undefined
  const named = new Map<number, string>()
  const refuse = (text: string, why: string): never => {
    throw new ChoraleError('bad_config', `--${flag} ${text}: ${why}`, { field: flag })
  }
  for (const text of texts) {
    const at = text.lastIndexOf('=')
    if (at < 0) {
      if (common !== undefined) refuse(text, `given twice without a model; write MODEL=${text}`)
      common = text
      continue
    }
    const name = text.slice(0, at)
    const exact = models.indexOf(name)
    const places = exact >= 0 ? [exact] : models.flatMap((model, i) => (basename(model) === name ? [i] : []))
    const [place] = places
    if (place === undefined) refuse(text, `${name} is not served here; there is ${models.join(', ')}`)
    else if (places.length > 1) refuse(text, `${name} may be ${places.map((i) => models[i]).join(' or ')}`)
    else if (named.has(place)) refuse(text, `${name} has a value already`)
    else named.set(place, text.slice(at + 1))
  }
  return { common, named }
}
