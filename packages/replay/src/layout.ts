/**
 * What lies where in the shared memory of this package. Everything begins on a cache line of 64 bytes, and what different
 * workers write lies on different lines. Offsets are in 32-bit words unless they say otherwise.
 *
 * A window:
 *
 *     line 0       VERSION | SIZE | FLAGS | LOG_BLOCKS | LOG_REGION | WORKERS | LIMIT | BASE ..   by create and imports
 *     line 1       EDGE                                                                     once per region of numbers
 *     line 2 ..    one line per worker: ACCEPTED | LATE                                     once per burst, its own only
 *     then         word 0 .. word N-1, each  [ tag 24 bits | one bit for each of 8 numbers ]  once per block
 *
 * The words are striped: block b of the ring lies in group b >> 2 of four, neighbouring groups lie on different lines, so
 * that workers that are dealt neighbouring runs of 32 numbers do not pull one line to and fro.
 *
 *     ring      | group 0 | group 1 | group 2 | ...           lines = N / 16
 *     memory    line 0: group 0, group lines, group 2*lines, group 3*lines
 *               line 1: group 1, group lines+1, ...
 */
export const WindowWord = {
  VERSION: 0,
  SIZE: 1,
  FLAGS: 2,
  LOG_BLOCKS: 3,
  LOG_REGION: 4,
  WORKERS: 5,
  LIMIT_LO: 6,
  LIMIT_HI: 7,
  /** Three float64, see `lost`: the number from which losses count, and what was accepted and lost before it. */
  BASE: 8,
  /** Region of the greatest announced number; 64 bits where 32 do not reach LIMIT. */
  EDGE: 16,
  WORKER: 32,
  WORDS_PER_WORKER: 16,
} as const;

/** First word of every window: "RW" and the layout's version. `attach` refuses anything else. */
export const WINDOW_VERSION = 0x5257_0002;

export const WindowFlag = { ESN: 1 } as const;

/** Where word `index` of a striped ring of 2^(4 + logLines) words lies; within one line a ring is not striped. */
export function stripe(index: number, logLines: number): number {
  const group = index >>> 2;
  return ((group & ((1 << logLines) - 1)) << 4) + ((group >>> logLines) << 2) + (index & 3);
}

/** A sequence allocator: constants on one line, what bursts write on another, the mark on a third. */
export const AllocatorWord = {
  VERSION: 0,
  LIMIT_LO: 2,
  LIMIT_HI: 3,
  SOFT_LO: 4,
  SOFT_HI: 5,
  /** 64-bit: first number not handed out. */
  NEXT: 16,
  /** 64-bit: last number that may be handed out before a restart could forget it. */
  MARK: 32,
  WORDS: 48,
} as const;

export const ALLOCATOR_VERSION = 0x5253_0002;

/** A lifetime: constants on two lines, then a line each for packets, bytes and what has happened. */
export const LifetimeWord = {
  VERSION: 0,
  /** Six float64: soft and hard packets, soft and hard bytes, quota of packets and of bytes. */
  LIMITS: 2,
  /** 64-bit: packets and bytes that workers have reserved. */
  PACKETS: 16,
  BYTES: 32,
  /** Bits of LifetimeEvent: SPENT by workers, TOLD by whoever is told. */
  SPENT: 48,
  TOLD: 49,
  WORDS: 64,
} as const;

export const LIFETIME_VERSION = 0x524c_0001;

/** Bytes per cache line. */
export const LINE_BYTES = 64;

/** Columns of a packet's row, as `@espalier/wire` has them (a test in esp holds the two together). */
export const Column = { WORDS: 16, START: 0, END: 1, SEQ_LO: 6, SEQ_HI: 7, FATE: 9 } as const;

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

/** Throws RangeError unless `bytes` fit into `memory` at a cache line. */
export function fits(memory: SharedArrayBuffer, offset: number, bytes: number): void {
  if (!Number.isInteger(offset) || offset < 0 || offset % LINE_BYTES !== 0)
    throw new RangeError(`"offset" must be a multiple of ${LINE_BYTES}, got ${offset}`);
  if (offset + bytes > memory.byteLength)
    throw new RangeError(`${bytes} bytes do not fit at offset ${offset} of ${memory.byteLength}`);
}
