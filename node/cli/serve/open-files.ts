import type { Logger } from '../../../src/log.ts'
import { resolveModel } from '../../../src/store/resolve-model.ts'
import { createModelPorts } from '../../model-ports.ts'
import type { Progress } from '../terminal.ts'
import type { HeldModel, WantedSpan } from './held-models.ts'
import type { WeightsWish } from './peer-files.ts'

interface Opening {
  readonly log: Logger
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** Models by their place on the command line; undefined where the weights come from peers. */
export async function openFiles(
  wanted: readonly WantedSpan[],
  wishes: readonly WeightsWish[],
  closers: (() => Promise<void>)[],
  { log, progress, signal }: Opening,
): Promise<readonly (HeldModel | undefined)[]> {
  const models: (HeldModel | undefined)[] = []
  for (const [i, one] of wanted.entries()) {
    if (wishes[i]?.fromPeers === true) {
      models.push(undefined)
      continue
    }
    const model = await resolveModel(one.reference, createModelPorts(log), {
      signal,
      revision: one.revision,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
    })
    closers.push(() => model.close())
    models.push({ ...one, model })
  }
  return models
}
