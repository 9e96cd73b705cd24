import { checkSpan } from '../../../src/engine/check-span.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { type ControlCommand, readControl } from './control.ts'
import type { HeldSpan } from './hold-span.ts'

/** Moves spans as standard input says; `tell` gets `moved` and `refused` events. @returns stops it. */
export function takeCommands(
  spans: readonly HeldSpan[],
  drainMs: number,
  tell: (event: object) => void,
): () => void {
  const failed = (error: unknown) =>
    tell({ event: 'refused', reason: error instanceof Error ? error.message : String(error) })
  const move = async ({ model: name, overlap, span: to }: ControlCommand): Promise<void> => {
    const { model, server } = spanOf(spans, name)
    checkSpan(model, to)
    const from = server.span
    await server.move(to, { overlap, drainMs })
    tell({ event: 'moved', model: model.name, from, to })
  }
  return readControl((command) => void move(command).catch(failed), failed)
}

/** @throws `bad_request` for a model that is not served, and for none where there are several. */
function spanOf(spans: readonly HeldSpan[], name: string | undefined): HeldSpan {
  const found = spans.filter(
    ({ model, reference }) => name === undefined || [model.id, model.name, reference].includes(name),
  )
  const [only] = found
  if (only !== undefined && found.length === 1) return only
  const names = spans.map(({ model }) => model.name).join(', ')
  throw new ChoraleError('bad_request', `"model" must name one of ${names}`, { field: 'model' })
}
