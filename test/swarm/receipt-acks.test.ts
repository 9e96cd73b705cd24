import { beforeAll, describe, expect, it } from 'vitest'
import { nativeEd25519 } from '../../node/native-ed25519.ts'
import type { ChoraleError } from '../../src/errors.ts'
import { FrameReader } from '../../src/protocol/frame.ts'
import { MAX_OPENING_BYTES } from '../../src/protocol/limits.ts'
import { parseSpanMessage } from '../../src/protocol/messages.ts'
import { encodeOpening, type Opening } from '../../src/protocol/opening.ts'
import { checkReceipts } from '../../src/protocol/receipt-check.ts'
import type { StoredReceipt } from '../../src/protocol/receipt-file.ts'
import { ackSignedBytes, parseReceiptPayload } from '../../src/protocol/receipts.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import { digestOf } from '../../src/swarm/digest.ts'
import type { Ed25519 } from '../../src/swarm/ed25519.ts'
import { createIdentity, type Identity, verifySignature } from '../../src/swarm/identity.ts'
import { signOpening } from '../../src/swarm/opening-guard.ts'
import { CHECKED_EVERY, type ReceiptFate } from '../../src/swarm/receipt-acks.ts'
import { createServedReceipts } from '../../src/swarm/serve-receipts.ts'

let server: Identity
let client: Identity
let opening: { readonly opening: Opening; readonly body: Uint8Array; readonly signed: Uint8Array }

beforeAll(async () => {
  ;[server, client] = await Promise.all([createIdentity(), createIdentity()])
  const asked: Opening = {
    session: new Uint8Array(16).fill(7),
    client: client.peerId,
    server: server.peerId,
    modelId: 'm@1',
    start: 0,
    end: 2,
    maxTokens: 4_096,
    dtype: 'f32',
    issuedAt: 1_000,
  }
  const body = encodeOpening(asked)
  const signed = encodeSigned(await signOpening(client, body), 'opening', MAX_OPENING_BYTES)
  opening = { opening: asked, body, signed }
})

type Answer = 'right' | 'forged' | 'missing'

interface Outcome {
  readonly kept: readonly StoredReceipt[]
  readonly fates: readonly ReceiptFate[]
  readonly trouble: ChoraleError | undefined
  /** Receipts the server gave before it found something wrong. */
  readonly given: number
  /** Signatures it looked at. */
  readonly checks: number
}

/** A session of a token a receipt; the client answers receipt `i` as `answerTo(i)` says. Cut, or closed and then told. */
async function session(
  tokens: number,
  answerTo: (sequence: number) => Answer,
  { cut = false, clock = () => 1_000 }: { readonly cut?: boolean; readonly clock?: () => number } = {},
): Promise<Outcome> {
  const kept: StoredReceipt[] = []
  const fates: ReceiptFate[] = []
  let trouble: ChoraleError | undefined
  let given = 0
  let checks = 0
  const counted: Ed25519 = {
    sign: nativeEd25519.sign,
    verify: (...signed) => {
      checks++
      return nativeEd25519.verify(...signed)
    },
  }
  const receipts = createServedReceipts({
    identity: server,
    digest: digestOf,
    ed25519: counted,
    opening,
    facts: { engine: 'test', numericMode: 'float' },
    everyTokens: () => 1,
    now: clock,
    post: (make) => {
      const sequence = given++
      const answer = answerTo(sequence)
      if (answer !== 'missing') acknowledge(sequence, make(), answer)
    },
    store: { add: (entry) => kept.push(entry) },
    onTrouble: (error) => (trouble ??= error),
    onFate: (fate) => fates.push(fate),
  })
  const acknowledge = (sequence: number, frame: Uint8Array, answer: Answer): void => {
    const signature = Uint8Array.from(nativeEd25519.sign(client, ackSignedBytes(bodyOf(frame))) as Uint8Array)
    if (answer === 'forged') signature[5]! ^= 1
    receipts.ack({ type: 'ack', sequence, signature })
  }
  const row = new Uint8Array(16)
  for (let seq = 0; seq < tokens; seq++) {
    if (trouble !== undefined) break
    receipts.step({ type: 'step', seq, position: seq, tokens: 1, want: 'all', deadlineMs: 1_000 }, row, row)
    // All is done in this turn of the event loop: signatures are made at once here.
    await new Promise((resolve) => setImmediate(resolve))
  }
  await receipts.finish(!cut && trouble === undefined)
  return { kept, fates, trouble, given, checks }
}

function bodyOf(frame: Uint8Array): Uint8Array {
  let body = new Uint8Array()
  const reader = new FrameReader(parseSpanMessage, frame.length)
  reader.push(frame, (_, payload) => (body = parseReceiptPayload(payload).body.slice()))
  return body
}

/** What anybody makes of what the server kept. */
async function evidenceOf({ kept }: Outcome) {
  const { sessions, problems } = await checkReceipts(kept, verifySignature)
  expect(problems).toEqual([])
  return sessions[0]
}

const TOKENS = 11

describe('createReceiptAcks', () => {
  it('checks the first signature, every fourth and the last, and the evidence says that all was agreed to', async () => {
    const outcome = await session(TOKENS, () => 'right')
    expect(outcome.trouble).toBeUndefined()
    // Receipts 0 to 10 and the final one, number 11: looked at are 0, 4, 8 and 11.
    expect(outcome.given).toBe(TOKENS + 1)
    expect(outcome.checks).toBe(4)
    expect(outcome.fates.filter((fate) => fate === 'agreed')).toHaveLength(4)
    expect(outcome.fates.filter((fate) => fate === 'covered')).toHaveLength(8)
    expect(await evidenceOf(outcome)).toMatchObject({
      receipts: TOKENS + 1,
      acknowledged: TOKENS + 1,
      complete: true,
      decoded: TOKENS,
    })
  })

  it.each(Array.from({ length: TOKENS + 1 }, (_, i) => i))(
    'signatures forged from receipt %i on are found out within four receipts, and none is kept',
    async (from) => {
      const outcome = await session(TOKENS, (sequence) => (sequence < from ? 'right' : 'forged'))
      expect(outcome.trouble).toMatchObject({ code: 'protocol', field: 'signature' })
      expect(outcome.fates).toContain('forged')
      // The one it is found at was given, and the session's own last one after it.
      expect(outcome.given).toBeLessThanOrEqual(from + CHECKED_EVERY + 1)
      const evidence = await evidenceOf(outcome)
      expect(evidence).toMatchObject({ complete: true, acknowledged: from })
    },
  )

  it.each(Array.from({ length: TOKENS + 1 }, (_, i) => i))(
    'one forged signature, on receipt %i, never becomes evidence',
    async (at) => {
      const outcome = await session(TOKENS, (sequence) => (sequence === at ? 'forged' : 'right'))
      const evidence = await evidenceOf(outcome)
      const looked = at === 0 || at === TOKENS || at % CHECKED_EVERY === 0
      // Either it was looked at and ended the session, or a later one agreed to the same steps.
      expect(outcome.fates.includes('forged')).toBe(looked)
      expect(outcome.trouble === undefined).toBe(!looked)
      expect(evidence!.acknowledged).toBe(at === TOKENS ? at : outcome.given)
    },
  )

  it.each(Array.from({ length: TOKENS + 1 }, (_, i) => i))(
    'a client that is gone after %i signatures has agreed to as many, and one that forged them to none of those',
    async (signed) => {
      const gone = await session(TOKENS, (sequence) => (sequence < signed ? 'right' : 'missing'), {
        cut: true,
      })
      expect((await evidenceOf(gone))!.acknowledged).toBe(signed)
      expect(gone.fates.filter((fate) => fate === 'unsigned').length).toBe(gone.given - signed)
      const forged = await session(
        TOKENS,
        (sequence) => (sequence === 0 ? 'right' : sequence < signed ? 'forged' : 'missing'),
        { cut: true },
      )
      expect((await evidenceOf(forged))!.acknowledged).toBe(Math.min(signed, 1) || 1)
      expect(forged.fates.includes('forged')).toBe(signed > 1)
    },
  )

  it('a signature that is half a minute late ends the session at the next receipt, wherever it is', async () => {
    for (const late of [0, 1, 4, 6]) {
      let now = 1_000
      const outcome = await session(TOKENS, (sequence) => (sequence === late ? 'missing' : 'right'), {
        clock: () => (now += 8_000),
      })
      expect(outcome.trouble).toMatchObject({ code: 'protocol', field: 'ack' })
      expect(outcome.given).toBeLessThanOrEqual(late + 7)
    }
  })

  it('a signature for a receipt that was never given, and a second one, are refused', async () => {
    const troubles: string[] = []
    let given = 0
    const receipts = createServedReceipts({
      identity: server,
      digest: digestOf,
      ed25519: nativeEd25519,
      opening,
      facts: { engine: 'test', numericMode: 'float' },
      everyTokens: () => 1,
      post: (make) => {
        const body = bodyOf(make())
        const sequence = given++
        const signature = Uint8Array.from(nativeEd25519.sign(client, ackSignedBytes(body)) as Uint8Array)
        for (const number of [sequence, sequence, sequence + 1]) {
          receipts.ack({ type: 'ack', sequence: number, signature })
        }
      },
      store: undefined,
      onTrouble: (error) => troubles.push(error.message),
    })
    const row = new Uint8Array(16)
    receipts.step({ type: 'step', seq: 0, position: 0, tokens: 1, want: 'all', deadlineMs: 1_000 }, row, row)
    await receipts.finish(false)
    expect(troubles.slice(0, 2)).toEqual([
      'no receipt 0 waits for a signature',
      'no receipt 1 waits for a signature',
    ])
  })
})
