import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import type { Counter } from '../metrics.ts'
import { PROTOCOL_VERSION } from '../protocol/ids.ts'
import { MAX_OPENING_BYTES } from '../protocol/limits.ts'
import { failure, type Hello, type Open } from '../protocol/messages.ts'
import { encodeOpening, type Opening } from '../protocol/opening.ts'
import { encodeSigned } from '../protocol/signed.ts'
import { WIRE_DTYPES } from '../protocol/wire-dtype.ts'
import { signOpening } from './opening-guard.ts'
import type { Peer } from './peer.ts'
import type { RemoteCalls } from './remote-calls.ts'
import { createRemoteReceipts } from './remote-receipts.ts'

function receiptsTaken({ metrics }: Peer): Counter {
  return metrics.counter('chorale_receipts_taken_total', 'Receipts of servers, by whether they are right.', [
    'result',
  ])
}

/** What a client says first, signed; from here on `calls` keeps the session's receipts. */
export async function prepareOpening(
  peer: Peer,
  calls: RemoteCalls,
  asked: Omit<Opening, 'session' | 'client' | 'issuedAt'>,
): Promise<{ readonly hello: Hello; readonly open: Open; readonly session: Uint8Array }> {
  const hello: Hello = {
    type: 'hello',
    version: PROTOCOL_VERSION,
    role: 'client',
    software: peer.software,
    dtypes: WIRE_DTYPES,
    ...(peer.pass && { pass: peer.pass }),
  }
  const opening: Opening = {
    ...asked,
    session: crypto.getRandomValues(new Uint8Array(16)),
    client: peer.id,
    issuedAt: Date.now(),
  }
  const openingBody = encodeOpening(opening)
  const open = await signOpening(peer.identity, openingBody)
  calls.receipts = createRemoteReceipts({
    identity: peer.identity,
    digest: peer.digest,
    ed25519: peer.ed25519,
    opening,
    openingBody,
    openingSigned: encodeSigned(open, 'opening', MAX_OPENING_BYTES),
    engine: () => calls.opened?.engine,
    post: (make) => calls.post(make),
    store: peer.receipts,
    onTaken: (result) => receiptsTaken(peer).inc({ result }),
    onTrouble: (error) => {
      calls.post(() => encodeFrame(failure(error.code, error.message, false)))
      calls.fail(new ChoraleError(error.code, `${calls.server}: ${error.message}`))
    },
  })
  return { hello, open, session: opening.session }
}
