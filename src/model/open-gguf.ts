import { ChoraleError } from '../errors.ts'
import type { ByteSource } from './byte-source.ts'
import type { Model } from './model.ts'

export async function openGguf(
  source: ByteSource,
  _options: { name: string; signal?: AbortSignal },
): Promise<Model> {
  throw new ChoraleError('not_supported', `${source.name}: gguf comes next`)
}
