/** Names of Chorale's own protocols on a libp2p connection. A new major version gets a new id and both may be served. */

/** What HELLO and WELCOME carry; peers with another number are refused with a readable error. */
export const PROTOCOL_VERSION = 3

/** One kept-open stream a session: HELLO, OPEN, STEP and so on. */
export const SPAN_PROTOCOL = '/chorale/span/1'

/** One request and one answer a stream: ANNOUNCE or LIST of signed server records. */
export const DIRECTORY_PROTOCOL = '/chorale/directory/1'

/** One request and one answer a stream: asks a sponsor for a pass, or shows one. */
export const PASS_PROTOCOL = '/chorale/pass/1'

/** One question and its answer a stream: weights in pieces, and what a peer has of them. */
export const BLOB_PROTOCOL = '/chorale/blob/1'

/** The project's own Kademlia table, so that peers of other networks never enter it. */
export const KAD_PROTOCOL = '/chorale/kad/1'

/** One question a stream: a server asks another for the keys and values of a session. */
export const HANDOVER_PROTOCOL = '/chorale/handover/1'

/** Gossip of signed server records that say something new: who joins, moves, leaves. */
export const RECORDS_TOPIC = 'chorale/records/all'

/** Gossip of the epoch reports of a subnet's nodes. */
export function attestTopic(subnetId: number): string {
  return `chorale/attest/${subnetId}`
}

/** Put before the bytes of a server record when it is signed: the key signs nothing else that starts so. */
export const RECORD_SIGNATURE_CONTEXT = 'chorale-server-record-1:'

/** The same for the request that opens a session. */
export const OPENING_SIGNATURE_CONTEXT = 'chorale-opening-1:'

/** The same for a pass. */
export const PASS_SIGNATURE_CONTEXT = 'chorale-pass-1:'

/** The same for a server's receipt, and for the client's word that it agrees with it. */
export const RECEIPT_SIGNATURE_CONTEXT = 'chorale-receipt-1:'
export const RECEIPT_ACK_CONTEXT = 'chorale-receipt-ack-1:'

/** The same for a client's grant that another server may take its session over. */
export const HANDOVER_SIGNATURE_CONTEXT = 'chorale-handover-1:'

/** Put before the bytes of each link of a session's hash chain. */
export const STEP_CHAIN_CONTEXT = 'chorale-step-chain-1:'
