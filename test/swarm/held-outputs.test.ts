import { describe, expect, it, vi } from 'vitest'
import { createFrame, FrameReader } from '../../src/protocol/frame.ts'
import type { Step } from '../../src/protocol/messages.ts'
import type { FramedStream } from '../../src/swarm/framed-stream.ts'
import { createHeldOutputs, type HeldOutput } from '../../src/swarm/held-outputs.ts'

function wired() {
  const writes: number[][] = []
  const sent: number[] = []
  const wire = {
    send: async (make: () => Uint8Array) => {
      const seqs: number[] = []
      const reader = new FrameReader<number>((header) => header.at(-1), 1 << 20)
      reader.push(make(), (seq) => void seqs.push(seq))
      writes.push(seqs)
    },
  } as FramedStream
  return { writes, sent, held: createHeldOutputs(wire, ({ step }) => sent.push(step.seq)) }
}

function output(seq: number, bytes = 64): HeldOutput {
  const step: Step = { type: 'step', seq, position: seq, tokens: 1, want: 'all', deadlineMs: 1_000 }
  return { step, input: new Uint8Array(4), frame: createFrame({ seq }, bytes) }
}

describe('createHeldOutputs', () => {
  it('sends one that can not wait at once, with those before it in one write and in order', async () => {
    const { writes, sent, held } = wired()
    await held.add(output(1), true)
    await held.add(output(2), true)
    expect(writes).toEqual([])
    await held.add(output(3), false)
    expect(writes).toEqual([[1, 2, 3]])
    expect(sent).toEqual([1, 2, 3])
  })

  it('sends after eight, after 48 KiB, when told to, and after some milliseconds', async () => {
    const { writes, held } = wired()
    for (let seq = 0; seq < 8; seq++) await held.add(output(seq), true)
    expect(writes.splice(0)).toEqual([[0, 1, 2, 3, 4, 5, 6, 7]])
    await held.add(output(8, 47 * 1024), true)
    expect(writes).toEqual([])
    await held.add(output(9, 2 * 1024), true)
    expect(writes.splice(0)).toEqual([[8, 9]])
    await held.add(output(10), true)
    await held.flush()
    expect(writes.splice(0)).toEqual([[10]])
    await held.add(output(11), true)
    await vi.waitFor(() => expect(writes).toEqual([[11]]))
  })

  it('drops what is held when the session is over', async () => {
    const { writes, sent, held } = wired()
    await held.add(output(1), true)
    held.clear()
    await held.add(output(2), false)
    expect(writes).toEqual([[2]])
    expect(sent).toEqual([2])
  })
})
