/**
 * Offsets in the shared memory of one window, in 32-bit words. Lines are 64 bytes; what is written often stands alone.
 *
 *     line 0   VERSION | SIZE | FLAGS | LOG_BLOCKS | LOG_REGION | LIMIT_LO | LIMIT_HI       written once, by create
 *     line 1   EDGE                                                                        raised by commits
 *     line 2   word 0 .. word N-1                                                          tag << 8 | bitmap
 */
export const WindowWord = {
  VERSION: 0,
  SIZE: 1,
  FLAGS: 2,
  LOG_BLOCKS: 3,
  LOG_REGION: 4,
  LIMIT_LO: 5,
  LIMIT_HI: 6,
  EDGE: 16,
  BLOCKS: 32,
} as const;

/** First word of every window: "RW" and the layout's version. `attach` refuses anything else. */
export const WINDOW_VERSION = 0x5257_0001;

export const WindowFlag = { ESN: 1 } as const;

/** Offsets of a sequence allocator: constants on their own line, the counter on another. */
export const AllocatorWord = {
  VERSION: 0,
  LIMIT_LO: 2,
  LIMIT_HI: 3,
  /** 64-bit, first number not handed out. */
  NEXT: 16,
  WORDS: 32,
} as const;

export const ALLOCATOR_VERSION = 0x5253_0001;

/** Bytes per cache line; everything shared begins on one. */
export const LINE_BYTES = 64;

/** Columns of a packet's row, as `@espalier/wire` has them (a test in esp holds the two together). */
export const Column = { WORDS: 16, SEQ_LO: 6, SEQ_HI: 7, FATE: 9 } as const;

/** What a window says of a number; the same numbers as the table of drop reasons. */
export const Verdict = {
  ACCEPT: 0,
  /** Accepted before. */
  REPLAYED: 1,
  /** Left of the window. */
  STALE: 2,
  /** No such number: zero, or below the first window. */
  INVALID: 3,
  /** Beyond LIMIT: the SA is used up. */
  EXHAUSTED: 4,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];
