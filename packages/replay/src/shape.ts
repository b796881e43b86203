import { TWO_32 } from './esn.ts';

/** Numbers per block: a block is one word of the ring. */
export const LOG_BLOCK = 3;
export const BLOCK: number = 1 << LOG_BLOCK;
/** Bits of a word's tag; a ring of N words serves N * 2^(24 + 3) numbers before a tag would repeat. */
export const LOG_TAG = 24;

export interface WindowOptions {
  /** Numbers the window spans, 32 to 2^20; any integer. Default 1024. */
  readonly size?: number;
  readonly esn: boolean;
  /**
   * Greatest number to accept; beyond it EXHAUSTED. Default 2^32 - 1 without ESN, 2^40 - 1 with it, whatever the size: as
   * the sender's. Memory follows it: 4 bytes per 2^27 numbers (32 KiB for 2^40), or what the size needs if that is more.
   */
  readonly limit?: number;
  /** How many workers keep accounts, 1 to 256; 64 bytes each. Default 4. */
  readonly workers?: number;
}

/** Everything that follows from the options. */
export interface Shape {
  readonly size: number;
  readonly esn: boolean;
  readonly limit: number;
  readonly workers: number;
  /** log2 of the ring's words. */
  readonly logBlocks: number;
  /** log2 of the numbers per region of the edge. */
  readonly logRegion: number;
}

/** Checks the options and sizes the ring: for the window wherever its edges fall in their blocks, and for LIMIT. */
export function shapeOf(options: WindowOptions): Shape {
  const { size = 1024, esn, workers = 4 } = options;
  if (!Number.isInteger(size) || size < 32 || size > 1 << 20)
    throw new RangeError(`"size" must be an integer from 32 to 2^20 (RFC 4303 3.4.3), got ${size}`);
  const most = esn ? Number.MAX_SAFE_INTEGER : TWO_32 - 1;
  const limit = options.limit ?? (esn ? 2 ** 40 : TWO_32) - 1;
  if (!Number.isInteger(limit) || limit < 1 || limit > most)
    throw new RangeError(`"limit" must be from 1 to ${most}, got ${limit}`);
  if (!Number.isInteger(workers) || workers < 1 || workers > 256)
    throw new RangeError(`"workers" must be from 1 to 256, got ${workers}`);
  let logBlocks = 0;
  while (BLOCK << logBlocks < size + BLOCK - 1 || 2 ** (logBlocks + LOG_BLOCK + LOG_TAG) <= limit) logBlocks++;
  return { size, esn, limit, workers, logBlocks, logRegion: Math.floor(Math.log2(size)) - 2 };
}
