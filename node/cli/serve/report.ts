import type { EngineChoice } from '../../../src/engine/select.ts'
import type { DutiesState } from '../../../src/server/duties-state.ts'
import type { Network } from '../../join-network.ts'
import type { HeldSpan } from './hold-span.ts'

/** An event for each new thing a node does or waits for. */
export function dutyEvents(tell: (event: object) => void): (state: DutiesState) => void {
  let last: string | undefined
  return ({ nodeId, epoch, elected, duty, lastAttestation }) => {
    const said = { nodeId, epoch, elected, duty, lastAttestation }
    const text = JSON.stringify(said)
    if (text !== last) tell({ event: 'duty', ...said })
    last = text
  }
}

/** The first span's numbers, and those of all in `spans`. */
export function readyEvent(
  network: Network,
  spans: readonly HeldSpan[],
  { engine, why }: EngineChoice,
): object {
  const all = spans.map(({ model, server }) => ({
    model: model.name,
    modelId: model.id,
    start: server.span.start,
    end: server.span.end,
    throughput: server.throughput,
    kvTokens: server.kvTokens,
    weightBytes: server.weightBytes,
  }))
  return {
    event: 'ready',
    peerId: network.peer.id,
    addrs: network.peer.addrs(),
    ...all[0],
    engine: engine.name,
    why,
    threads: engine.threads,
    spans: all,
  }
}

/** The same for people, with what others join through. */
export function readyLines(
  network: Network,
  spans: readonly HeldSpan[],
  isFirst: boolean,
): readonly string[] {
  const addrs = network.peer.addrs()
  return [
    ...spans.map(({ model, server }) => {
      const { start, end } = server.span
      return `serving blocks ${start}:${end} of ${model.name} (it has 0:${model.spec.blockCount}) at ${server.throughput} tok/s, room for ${server.kvTokens} tokens`
    }),
    ...addrs.map((address) => `address ${address}`),
    ...addrs
      .slice(0, isFirst ? 1 : 0)
      .map(
        (address) => `This is the first peer of a new network. Others join it with --bootstrap ${address}`,
      ),
  ]
}
