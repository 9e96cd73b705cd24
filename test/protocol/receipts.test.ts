import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { encodeOpening, type Opening } from '../../src/protocol/opening.ts'
import { checkReceipts } from '../../src/protocol/receipt-check.ts'
import {
  encodeStoredReceipt,
  readReceiptFile,
  RECEIPT_FILE_MAGIC,
  type StoredReceipt,
} from '../../src/protocol/receipt-file.ts'
import {
  ackSignedBytes,
  encodeReceiptBody,
  encodeReceiptPayload,
  parseReceiptPayload,
  type Receipt,
  receiptSignedBytes,
} from '../../src/protocol/receipts.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import {
  firstLink,
  foldSteps,
  packSteps,
  type StepDigest,
  unpackSteps,
} from '../../src/protocol/step-chain.ts'
import { createIdentity, signBytes, verifySignature } from '../../src/swarm/identity.ts'
import { signOpening } from '../../src/swarm/opening-guard.ts'
import { mutate, seededRandom, withoutStackTraces } from './random.ts'

const server = await createIdentity(new Uint8Array(32).fill(1))
const client = await createIdentity(new Uint8Array(32).fill(2))
const liar = await createIdentity(new Uint8Array(32).fill(3))

const opening: Opening = {
  session: Uint8Array.from({ length: 16 }, (_, i) => i),
  client: client.peerId,
  server: server.peerId,
  modelId: 'm@1',
  start: 2,
  end: 4,
  maxTokens: 64,
  dtype: 'f32',
  issuedAt: 1_000,
}
const openingBody = encodeOpening(opening)
const openingSigned = encodeSigned(await signOpening(client, openingBody), 'opening', 4096)

const stepAt = (seq: number, position: number, tokens: number): StepDigest => ({
  seq,
  position,
  tokens,
  input: new Uint8Array(32).fill(seq + 1),
  output: new Uint8Array(32).fill(seq + 101),
})

interface Part {
  readonly steps: readonly StepDigest[]
  readonly more?: Partial<Receipt>
  readonly final?: boolean
}

/** Receipts as an honest server gives them; `more` is what it lies about. */
async function receiptsOf(parts: readonly Part[], signer = server): Promise<StoredReceipt[]> {
  let previous = firstLink(openingBody)
  let [prefilled, decoded, position] = [0, 0, 0]
  const entries: StoredReceipt[] = []
  for (const [sequence, { steps, more = {}, final = false }] of parts.entries()) {
    const packed = packSteps(steps)
    for (const step of steps) {
      if (step.tokens > 1) prefilled += step.tokens
      else decoded += step.tokens
      position = step.position + step.tokens
    }
    const chain = foldSteps(previous, packed)
    const { session, modelId, start, end } = opening
    const body = encodeReceiptBody({
      session,
      client: client.peerId,
      server: server.peerId,
      modelId,
      start,
      end,
      engine: 'wasm',
      numericMode: 'float',
      sequence,
      final,
      position,
      prefilled,
      decoded,
      previous,
      chain,
      issuedAt: 2_000 + sequence,
      ...more,
    })
    const signed = encodeSigned(
      { body, signature: await signBytes(signer, receiptSignedBytes(body)) },
      'receipt',
      4096,
    )
    const ack = await signBytes(client, ackSignedBytes(body))
    entries.push({ signed, steps: packed, ack, ...(sequence === 0 && { opening: openingSigned }) })
    previous = chain
  }
  return entries
}

const honest: readonly Part[] = [
  { steps: [stepAt(0, 0, 5)] },
  { steps: [stepAt(1, 5, 1), stepAt(2, 6, 1), stepAt(4, 6, 1)] },
  { steps: [], final: true },
]
const check = (entries: readonly StoredReceipt[]) => checkReceipts(entries, verifySignature)

describe('checkReceipts', () => {
  it('says who computed what for whom, and whether both signed all of it', async () => {
    const { sessions, problems } = await check(await receiptsOf(honest))
    expect(problems).toEqual([])
    expect(sessions).toEqual([
      {
        session: '000102030405060708090a0b0c0d0e0f',
        client: client.peerId,
        server: server.peerId,
        modelId: 'm@1',
        start: 2,
        end: 4,
        engine: 'wasm',
        numericMode: 'float',
        receipts: 3,
        acknowledged: 3,
        complete: true,
        prefilled: 5,
        decoded: 3,
        firstAt: 2_000,
        lastAt: 2_002,
      },
    ])
  })

  it('takes entries in any order, from both ends, with and without the client’s word', async () => {
    const entries = await receiptsOf(honest)
    const unsigned = entries.map(({ signed, steps, opening: first }) => ({
      signed,
      steps,
      ...(first && { opening: first }),
    }))
    const { sessions, problems } = await check([...unsigned, ...entries.toReversed()])
    expect(problems).toEqual([])
    expect(sessions).toMatchObject([{ receipts: 3, acknowledged: 3, complete: true }])
  })

  it.each<[string, number, readonly Part[]]>([
    ['decoded', 1, [honest[0]!, { ...honest[1]!, more: { decoded: 4 } }]],
    ['prefilled', 0, [{ ...honest[0]!, more: { prefilled: 50 } }]],
    ['position', 0, [{ ...honest[0]!, more: { position: 6 } }]],
    ['chain', 0, [{ ...honest[0]!, more: { chain: new Uint8Array(32) } }]],
    ['previous', 0, [{ ...honest[0]!, more: { previous: new Uint8Array(32) } }]],
    ['previous', 1, [honest[0]!, { ...honest[1]!, more: { previous: new Uint8Array(32) } }]],
    ['engine', 1, [honest[0]!, { ...honest[1]!, more: { engine: 'onnx' } }]],
    ['end', 1, [honest[0]!, { ...honest[1]!, more: { end: 9 } }]],
    ['issuedAt', 1, [honest[0]!, { ...honest[1]!, more: { issuedAt: 1 } }]],
    ['sequence', 1, [honest[0]!, { ...honest[1]!, more: { sequence: 2 } }]],
    ['sequence', 1, [honest[0]!, { ...honest[1]!, more: { sequence: 0 } }]],
    ['sequence', 0, [{ ...honest[0]!, more: { sequence: 3 } }]],
    ['steps', 0, [{ steps: [stepAt(1, 0, 1), stepAt(0, 1, 1)] }]],
    ['steps', 1, [honest[0]!, { steps: [stepAt(0, 5, 1)] }]],
    ['steps', 0, [{ steps: [stepAt(0, 3, 1)] }]],
    ['final', 1, [{ ...honest[0]!, final: true }, honest[1]!]],
  ])('names %s when the server lies in entry %i', async (field, entry, parts) => {
    const { problems, sessions } = await check(await receiptsOf(parts))
    expect(problems).toMatchObject([{ entry, field }])
    expect(sessions.reduce((sum, { receipts }) => sum + receipts, 0)).toBe(entry)
  })

  it('names who did not sign', async () => {
    const [first] = await receiptsOf([honest[0]!])
    const forged = await receiptsOf([honest[0]!], liar)
    expect((await check(forged)).problems).toMatchObject([{ field: 'signature' }])
    const ack = await signBytes(liar, new Uint8Array(3))
    expect((await check([{ ...first!, ack }])).problems).toMatchObject([{ field: 'ack' }])
    const other = encodeSigned(await signOpening(liar, openingBody), 'opening', 4096)
    expect((await check([{ ...first!, opening: other }])).problems).toMatchObject([{ field: 'opening' }])
    const elsewhere = encodeOpening({ ...opening, modelId: 'm@2' })
    const wrongModel = encodeSigned(await signOpening(client, elsewhere), 'opening', 4096)
    expect((await check([{ ...first!, opening: wrongModel }])).problems).toMatchObject([
      { field: 'opening', message: expect.stringContaining('modelId') },
    ])
  })

  it('a file that begins in the middle counts what it proves, and is not complete', async () => {
    const entries = await receiptsOf(honest)
    const { sessions, problems } = await check(entries.slice(1))
    expect(problems).toEqual([])
    expect(sessions).toMatchObject([{ receipts: 2, complete: false }])
  })

  it('a changed step breaks the chain', async () => {
    const [first] = await receiptsOf([honest[0]!])
    const steps = Uint8Array.from(first!.steps)
    steps[40] = steps[40]! ^ 1
    expect((await check([{ ...first!, steps }])).problems).toMatchObject([{ field: 'chain' }])
  })
})

describe('readReceiptFile', () => {
  const fileOf = (entries: readonly StoredReceipt[]): Uint8Array =>
    Uint8Array.from([...RECEIPT_FILE_MAGIC, ...entries.flatMap((entry) => [...encodeStoredReceipt(entry)])])

  it('reads what was written, also when the end was cut off', async () => {
    const entries = await receiptsOf(honest)
    const file = fileOf(entries)
    expect(readReceiptFile(file)).toEqual({ entries, cutBytes: 0 })
    const cut = readReceiptFile(file.subarray(0, -5))
    expect(cut.entries).toEqual(entries.slice(0, 2))
    expect(cut.cutBytes).toBeGreaterThan(0)
    expect(() => readReceiptFile(new Uint8Array(40))).toThrow('no file of receipts')
  })

  it('100,000 broken files and messages: only bad_file and protocol', async () => {
    const random = seededRandom(5)
    const entries = await receiptsOf(honest.slice(0, 1))
    const file = fileOf(entries)
    const payload = encodeReceiptPayload(entries[0]!)
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        const [bytes, read, code] =
          i % 2 === 0
            ? ([file, readReceiptFile, 'bad_file'] as const)
            : ([payload, parseReceiptPayload, 'protocol'] as const)
        try {
          read(mutate(bytes, random))
        } catch (error) {
          if (errorCode(error) !== code) throw error
        }
      }
    })
  })
})

describe('packSteps and unpackSteps', () => {
  it('come back as they were, and are bounded', () => {
    const steps = [stepAt(0, 0, 512), stepAt(7, 512, 1)]
    expect(unpackSteps(packSteps(steps))).toEqual(steps)
    expect(() => unpackSteps(new Uint8Array(75))).toThrow('field steps')
    expect(() => unpackSteps(new Uint8Array(257 * 76))).toThrow('at most 256')
  })
})
