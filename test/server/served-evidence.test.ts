import { describe, expect, it } from 'vitest'
import { createServedEvidence } from '../../src/server/served-evidence.ts'
import type { ShownPass } from '../../src/swarm/pass-book.ts'
import { peer, signSession } from '../attest/peers.ts'

describe('createServedEvidence', () => {
  const steps = [0, 1].map((seq) => ({
    seq,
    position: seq,
    tokens: 1,
    input: Uint8Array.of(seq, 1),
    output: Uint8Array.of(seq, 2),
  }))

  it('keeps sessions, and the pass that a client worked with after it ended', async () => {
    const [server, client, staked] = await Promise.all([peer(1), peer(2), peer(3)])
    const book = new Map<string, Uint8Array>([[client.peerId, Uint8Array.of(7)]])
    const evidence = createServedEvidence({
      passes: {
        of: (id) => (book.has(id) ? ({ bytes: book.get(id) } as ShownPass) : undefined),
        uses: () => [],
        due: () => [],
      },
    })
    for (const [id, by] of [client, staked].entries()) {
      const script = { server, client: by, modelId: 'm@1', start: 0, end: 4, issuedAt: 1, id }
      const signed = await signSession(script, steps)
      evidence.tap.open(signed.session, signed.opening)
      for (const step of signed.steps) evidence.tap.step(signed.session, step)
      for (const receipt of signed.receipts) evidence.tap.receipt(receipt)
      expect(evidence.store.get(signed.session)).toMatchObject({
        complete: true,
        steps,
        opening: signed.opening,
      })
      expect(evidence.store.get(signed.session)?.receipts).toHaveLength(1)
    }
    book.clear()
    expect(evidence.passOf(client.peerId)).toEqual(Uint8Array.of(7))
    expect(evidence.passOf(staked.peerId)).toBeUndefined()
  })

  it('keeps no more bytes than it may', async () => {
    const [server, client] = await Promise.all([peer(1), peer(2)])
    const evidence = createServedEvidence(undefined, 10)
    for (let id = 0; id < 5; id++) {
      const script = { server, client, modelId: 'm@1', start: 0, end: 4, issuedAt: 1, id }
      const signed = await signSession(script, steps)
      evidence.tap.open(signed.session, signed.opening)
      for (const step of signed.steps) evidence.tap.step(signed.session, step)
    }
    expect(evidence.store.bytes).toBe(8)
  })
})
