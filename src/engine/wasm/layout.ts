/**
 * Records in linear memory that the host writes and the kernels read. Offsets are bytes; fields are 32-bit words.
 *
 * This file is compiled twice, as TypeScript for the host and as AssemblyScript for the kernels, so it holds nothing
 * but whole numbers.
 */

/** Weight rows a matrix interleaves: an octet is two vectors of four rows. */
export const OCTET = 8

/** Values that share one scale, in weights and in rounded activations. */
export const GROUP = 32

/** Tokens of a KV page; equals `PAGE_TOKENS` of the page pool. */
export const KV_PAGE = 16

/** Control record: what threads meet at. Each word has a cache line (64 bytes) of its own. */
export const CONTROL_EPOCH = 0
export const CONTROL_ARRIVED = 64
export const CONTROL_GENERATION = 128
export const CONTROL_SLEEPERS = 192
export const CONTROL_OPERATION = 256
export const CONTROL_ARGUMENT = 260
export const CONTROL_BYTES = 320

/** Behind the control record, for each thread: pieces taken of its share of the work, one counter a phase, then its `tile`. */
export const THREAD_TAKEN = 0
/** Most phases of one operation: bounds the blocks that one call runs. */
export const MAX_PHASES = 1024
export const THREAD_TILE = 4096

/**
 * Scratch of each thread for a matmul: 4-bit weights of an octet and up to `TILE_COLUMNS`
 * columns as bytes, with scales and minima as float32 (`TILE_GROUP_BYTES` a group of 32), then the unfinished sums of
 * `TILE_ROWS` rows. Both fit the first level of cache together.
 */
export const TILE_COLUMNS = 1024
export const TILE_GROUP_BYTES = 320
export const TILE_ROWS = 64
export const TILE_WEIGHTS_BYTES = 16384
/** The same scratch for plain weights: columns of two octets as float32, and sums of both. */
export const TILE_FLOAT_COLUMNS = 256
export const TILE_FLOAT_ROWS = 32
/** Where what was fetched ahead goes, so that no compiler drops it. */
export const TILE_TOUCHED = 18432
export const TILE_BYTES = 18496
export const THREAD_BYTES = 22592

export const OPERATION_STOP = 0
export const OPERATION_SPAN = 1
export const OPERATION_HEAD = 2

/** Matrix record. */
export const MATRIX_KIND = 0
/** Rows in whole octets. */
export const MATRIX_OCTETS = 4
export const MATRIX_COLUMNS = 8
export const MATRIX_DATA = 12
export const MATRIX_OCTET_BYTES = 16
/** Address of a bias of whole octets, or 0. */
export const MATRIX_BIAS = 20
/** float16 weights: 2^112, less the powers of two by which they are stored too large. */
export const MATRIX_FACTOR = 24
export const MATRIX_BYTES = 32

/** Matrix kinds: how an octet of rows is stored (see `pack-matrix.ts`). From `KIND_Q4_F16` on, activations are rounded. */
export const KIND_F32 = 0
export const KIND_F16 = 1
export const KIND_BF16 = 2
export const KIND_Q4_F16 = 16
export const KIND_Q4_MIN_F16 = 17
export const KIND_Q4_F32 = 18
export const KIND_Q4_MIN_F32 = 19
export const KIND_Q8_F16 = 20
export const KIND_Q8_MIN_F16 = 21
export const KIND_Q8_F32 = 22
export const KIND_Q8_MIN_F32 = 23
/** 8-bit weights with a scale for each 16. */
export const KIND_Q8_HALF_F32 = 24

/**
 * Added to the kind of a quantised matrix whose activations are rounded to 15 bits instead of 8: integers
 * x = 128 * high + low, high int8, low 0..127.
 */
export const KIND_WIDE = 32

/** What the largest of a group of activations becomes: 127, or 128 * 127 in 15 bits. */
export const LEVELS = 127
export const WIDE_LEVELS = 16256

/**
 * Rounded activations: a record for each group of 32 of a row: 32 × int8 (high), 32 × low (in 15 bits), what the group's
 * scale and sums are, 32 × |high|, 32 × sign mask of high.
 */
export const ROUNDED_BYTES_PER_VALUE = 5
export const ROUNDED_LOW = 32
export const GROUP_SCALE = 64
/** scale × sum of the integers. */
export const GROUP_SUM = 68
/** -8 × sum of the integers: what the zero point of Q4_0 adds. */
export const GROUP_ZERO = 72
/** Sum of |high| of the negative integers, of the group and of its halves. */
export const GROUP_NEGATIVE = 76
export const GROUP_NEGATIVE_LOW = 80
export const GROUP_NEGATIVE_HIGH = 84
export const ROUNDED_ABSOLUTE = 96
export const ROUNDED_MASK = 128
export const GROUP_BYTES = 160

/** Block record: addresses. */
export const BLOCK_ATTENTION_NORM = 0
export const BLOCK_Q = 4
export const BLOCK_K = 8
export const BLOCK_V = 12
export const BLOCK_O = 16
export const BLOCK_MLP_NORM = 20
export const BLOCK_GATE = 24
export const BLOCK_UP = 28
export const BLOCK_DOWN = 32
export const BLOCK_KEYS = 36
export const BLOCK_VALUES = 40
/** Biases of the norms, which makes them layer norms, or 0. */
export const BLOCK_ATTENTION_NORM_BIAS = 44
export const BLOCK_MLP_NORM_BIAS = 48
/** Norms of each head of q and k, or 0. */
export const BLOCK_Q_NORM = 52
export const BLOCK_K_NORM = 56
/** Keys that a query sees, itself included; 0: all up to it. */
export const BLOCK_WINDOW = 60
/** Float matrix whose rows are experts, or 0; then gate, up and down are unused. */
export const BLOCK_ROUTER = 64
/** Expert records, one after the other. */
export const BLOCK_EXPERTS = 68
export const BLOCK_BYTES = 128

/** Expert record: its matrices. */
export const EXPERT_GATE = 0
export const EXPERT_UP = 4
export const EXPERT_DOWN = 8
export const EXPERT_BYTES = 16

/** Span record: the shape, then addresses of scratch. */
export const SPAN_HIDDEN_SIZE = 0
export const SPAN_HEADS = 4
export const SPAN_KV_HEADS = 8
export const SPAN_HEAD_DIM = 12
export const SPAN_ROTARY_HALF = 16
export const SPAN_INTERMEDIATE = 20
/** float32 */
export const SPAN_EPSILON = 24
/** float32: multiplies attention scores. */
export const SPAN_SCORE_SCALE = 28
export const SPAN_BLOCKS = 32
/** Values between rows of each scratch matrix. */
export const SPAN_HIDDEN_STRIDE = 36
export const SPAN_Q_STRIDE = 40
export const SPAN_KV_STRIDE = 44
export const SPAN_INTERMEDIATE_STRIDE = 48
/** Hidden states [rows, hiddenStride], input and output. */
export const SPAN_HIDDEN = 52
export const SPAN_Q = 56
export const SPAN_K = 60
export const SPAN_V = 64
export const SPAN_ATTENDED = 68
export const SPAN_GATE = 72
export const SPAN_UP = 76
/** Rows prepared for a matmul by all threads together, and by each for itself. */
export const SPAN_PREPARED = 80
export const SPAN_PREPARED_ROUNDED = 84
export const SPAN_ACTIVATED_ROUNDED = 88
export const SPAN_PRIVATE = 92
export const SPAN_PRIVATE_BYTES = 96
/** Where attention scores start in a thread's private scratch, after the prepared rows. */
export const SPAN_PRIVATE_SCORES = 100
export const SPAN_COS = 104
export const SPAN_SIN = 108
/** Row records. */
export const SPAN_ROWS = 112
/** Set for each step. */
export const SPAN_ROW_COUNT = 116
export const SPAN_FIRST_BLOCK = 120
export const SPAN_LAST_BLOCK = 124
/** 1: attention and mlp both read the block's input. */
export const SPAN_PARALLEL = 128
export const SPAN_ACTIVATION = 132
/** ALiBi: a float32 slope for each query head (as it is added to scaled scores), or 0 where there is none. */
export const SPAN_SLOPES = 136
/** 1: positions and biases are rounded to bfloat16. */
export const SPAN_ROUNDED_BIAS = 140
/** float32: multiplies biases. */
export const SPAN_BIAS_SCALE = 144
/** Experts, how many of them a row takes, and whether their weights are divided by their sum. */
export const SPAN_EXPERT_COUNT = 148
export const SPAN_TOP_K = 152
export const SPAN_NORMALIZE_TOP_K = 156
/** Router logits [rows, experts in whole octets]. */
export const SPAN_ROUTER_LOGITS = 160
/** Route records [rows, topK], in the order of their experts. */
export const SPAN_ROUTES = 164
/** First slot of each expert, and the end of the last: rows that an expert computes lie in slots side by side. */
export const SPAN_EXPERT_SLOTS = 168
/** Slots: prepared rows, the same rounded, results. */
export const SPAN_SLOT_ROWS = 172
export const SPAN_SLOT_ROUNDED = 176
export const SPAN_SLOT_RESULTS = 180
/** 1: no two rows are of one session. Set for each step. */
export const SPAN_SINGLE_ROWS = 184
export const SPAN_BYTES = 192

/** Activations. */
export const ACTIVATION_SILU = 0
export const ACTIVATION_GELU = 1
export const ACTIVATION_GELU_TANH = 2

/** Route record: expert, its float32 weight, the slot of its result. */
export const ROUTE_EXPERT = 0
export const ROUTE_WEIGHT = 4
export const ROUTE_SLOT = 8
export const ROUTE_BYTES = 16

/** Row record: position in its session, address of the session's page numbers. */
export const ROW_POSITION = 0
export const ROW_PAGES = 4
export const ROW_BYTES = 8

/** Head record. */
export const HEAD_HIDDEN_SIZE = 0
export const HEAD_EPSILON = 4
export const HEAD_NORM = 8
export const HEAD_MATRIX = 12
export const HEAD_ROW_COUNT = 16
export const HEAD_HIDDEN = 20
export const HEAD_HIDDEN_STRIDE = 24
export const HEAD_LOGITS = 28
export const HEAD_LOGITS_STRIDE = 32
export const HEAD_PREPARED = 36
export const HEAD_PREPARED_ROUNDED = 40
export const HEAD_PRIVATE = 44
export const HEAD_PRIVATE_BYTES = 48
/** Bias of the norm, which makes it a layer norm, or 0. */
export const HEAD_NORM_BIAS = 52
/** Logits of a row, without those that fill the last octet. */
export const HEAD_VOCABULARY = 56
/** Best records of all threads, one after the other, or 0 when logits are wanted. */
export const HEAD_BEST = 60
/** Place for the screening rows of all threads, and the outputs' norms (`kernels/screen.ts`); both 0 without. */
export const HEAD_SCREENED = 64
export const HEAD_NORMS = 68
export const HEAD_BYTES = 72

/** Most bytes of a screening row for each value. */
export const SCREENED_BYTES_PER_VALUE = 2

/** Best record, of one row and thread: float32 highest logit, its id, 1 when a logit was not finite, what screening may miss. */
export const BEST_VALUE = 0
export const BEST_ID = 4
export const BEST_SPOILED = 8
export const BEST_SLACK = 12
export const BEST_BYTES = 16

/** Rows so few that each thread prepares them for itself: cheaper than meeting once more. Rounding them costs more than a norm. */
export const PRIVATE_ROWS = 4
export const PRIVATE_PLAIN_ROWS = 16
