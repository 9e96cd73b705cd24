/** Every bound of the wire protocol, each with the attack or accident it stops. Exceeding one is a `protocol` error. */

const MIB = 1024 * 1024

/** Header bytes of a frame. Stops a peer that makes us buffer and parse one endless header. */
export const MAX_HEADER_BYTES = 4096

/** Nesting of a CBOR header. Stops a few KiB of `[[[[…` from overflowing the stack. */
export const MAX_CBOR_DEPTH = 6

/** Values in one CBOR header. Stops a header of thousands of one-byte items that grow to objects. */
export const MAX_CBOR_ITEMS = 512

/** Payload of one STEP or OUTPUT. Stops a peer that announces gigabytes and then dribbles them. */
export const MAX_STEP_PAYLOAD_BYTES = 8 * MIB

/** Tokens of one STEP. Engines' scratch memory grows with it, so it bounds that too. */
export const MAX_STEP_TOKENS = 4096

/** Servers after this one in a STEP: stops a header that is all list. Chains are far shorter. */
export const MAX_ONWARD = 64

/** LINK messages of one session. Stops a client that uses a server to dial the whole network. */
export const MAX_LINKS_PER_SESSION = 64

/** Steps, and their payload bytes, a client may send before it was admitted. Stops strangers from filling memory. */
export const MAX_EARLY_STEPS = 16
export const MAX_EARLY_BYTES = MIB

/** Tokens of a step that every server takes: what is sent before OPENED names its own limit. */
export const MAX_EARLY_STEP_TOKENS = 64

/** Steps a client may have under way. Stops a session that queues endless tiny steps. */
export const MAX_QUEUED_STEPS = 256

/** Step bytes waiting in one session before the server stops reading its stream. */
export const MAX_QUEUED_BYTES_PER_SESSION = 8 * MIB

/** Step bytes waiting in all sessions of a server: many sessions must not add up to all its memory. */
export const MAX_QUEUED_BYTES_PER_SERVER = 64 * MIB

/** Tokens a session may lease. Keeps positions far inside safe integers. */
export const MAX_LEASE_TOKENS = 1 << 24

/** Longest wait a client may ask for or a server may be asked to honour, in milliseconds. */
export const MAX_DEADLINE_MS = 600_000

/** Streams of one server that said HELLO, or nothing, and hold no session yet. Stops idle-stream floods. */
export const MAX_WAITING_STREAMS = 256

/** Blocks of a model. */
export const MAX_BLOCKS = 4096

/** Values of one hidden state. */
export const MAX_HIDDEN_SIZE = 1 << 17

/** Characters of a model id. */
export const MAX_MODEL_ID_LENGTH = 256

/** Characters of a short name: engine, precision, software version. */
export const MAX_NAME_LENGTH = 96

/** Characters of an error's message: it is shown to people and logged. */
export const MAX_ERROR_MESSAGE_LENGTH = 512

/** Addresses of one server record. Stops records that make every client dial a list of victims. */
export const MAX_ADDRS = 12

/** Characters of one address. */
export const MAX_ADDR_LENGTH = 200

/** Bytes of one signed server record. */
export const MAX_RECORD_BYTES = 3584

/** How far ahead a record may expire. Stops records that outlive their server for days. */
export const MAX_RECORD_LIFETIME_MS = 5 * 60_000

/** How far another machine's clock may be off before its records are refused. */
export const CLOCK_TOLERANCE_MS = 30_000

/** Records a directory peer keeps. Stops a crowd of made-up identities from filling its memory. */
export const MAX_STORED_RECORDS = 4096

/** Models one peer may be listed for. */
export const MAX_RECORDS_PER_PEER = 8

/** Records in one answer of LIST. */
export const MAX_LISTED_RECORDS = 256

/** Payload of a LIST answer. */
export const MAX_LIST_PAYLOAD_BYTES = MAX_LISTED_RECORDS * (MAX_RECORD_BYTES + 8) + 16

/** Characters of a peer id as text. */
export const MAX_PEER_ID_LENGTH = 128

/** Latest time that fits a date, in milliseconds. */
export const MAX_TIME_MS = 8.64e15

/** Bytes of the signed body of OPEN. */
export const MAX_OPENING_BYTES = 2048

/** Openings a server remembers so that none counts twice. Stops a replayed OPEN; a fuller memory refuses new sessions. */
export const MAX_REMEMBERED_OPENINGS = 65_536

/** Bytes of one pass: it travels in HELLO, whose header has 4 KiB. */
export const MAX_PASS_BYTES = 2048

/** Models one pass may name. */
export const MAX_PASS_MODELS = 8

/** Longest life of a pass: a sponsor whose stake is gone must not admit anybody for long. */
export const MAX_PASS_LIFETIME_MS = 60 * 60_000

/** Tokens and sessions one pass may grant. Keeps sums of them far inside safe integers. */
export const MAX_PASS_TOKENS = 1 << 30
export const MAX_PASS_SESSIONS = 1 << 20

/** Steps one receipt covers. Bounds its bytes and the work of checking it. */
export const MAX_RECEIPT_STEPS = 256

/** Bytes of one signed receipt without its steps. */
export const MAX_RECEIPT_BYTES = 2048

/** Payload of RECEIPT: the receipt and 76 bytes a step. */
export const MAX_RECEIPT_PAYLOAD_BYTES = MAX_RECEIPT_BYTES + MAX_RECEIPT_STEPS * 76 + 64

/** Longest wait that a refusal may ask for, in milliseconds. */
export const MAX_RETRY_AFTER_MS = 3_600_000

/** Bytes of one signed hand-over grant. */
export const MAX_GRANT_BYTES = 1024

/** Servers that one ADOPT names: chains are shorter. Stops a client that makes a server dial the whole network. */
export const MAX_ADOPT_SOURCES = 16

/** Payload of ADOPT. */
export const MAX_ADOPT_BYTES = MAX_ADOPT_SOURCES * (MAX_GRANT_BYTES + 12 * 208 + 64) + 64

/** ADOPTs of one session: rounds of a hand-over are few. Stops a client that keeps two servers busy with each other. */
export const MAX_ADOPTS_PER_SESSION = 16

/** Payload of one part of a hand-over: what a server holds of it at once. */
export const MAX_HANDOVER_PART_BYTES = 4 * MIB

/** Values of one token's keys in one block. */
export const MAX_KV_WIDTH = 1 << 17
