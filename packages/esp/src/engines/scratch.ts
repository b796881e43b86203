/** Longest payload that an IP packet can carry, rounded up, and a block. One per thread. */
const BYTES: Uint8Array = new Uint8Array(65_536 + 16);

/** The scratch as words of the machine's own byte order. */
export const WORDS: Uint32Array = new Uint32Array(BYTES.buffer);

/**
 * Copies `bytes[start, end)` into memory of this thread alone: aligned, which a payload behind an Ethernet header is not,
 * and where nobody else can watch or change it. Zeros fill the last 16-byte block. Returns the number of blocks.
 *
 * V8 copies shared memory byte by byte unless both ends are aligned alike (1400 bytes: 390 ns against 65). So it goes to
 * the same place within 8 bytes first, and from there to the front.
 */
export function load(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const skew = (bytes.byteOffset + start) & 7;
  BYTES.set(bytes.subarray(start, end), skew);
  BYTES.copyWithin(0, skew, skew + length);
  trim(length);
  return (length + 15) >>> 4;
}

/** Copies as many bytes back to `bytes[start, end)`. */
export function store(bytes: Uint8Array, start: number, end: number): void {
  const skew = (bytes.byteOffset + start) & 7;
  BYTES.copyWithin(skew, 0, end - start);
  bytes.set(BYTES.subarray(skew, skew + end - start), start);
}

/** Zeros behind the first `length` bytes up to the end of their block. */
export function trim(length: number): void {
  for (let i = length; i & 15; i++) BYTES[i] = 0;
}

/** Forgets plaintext. */
export function clear(blocks: number): void {
  WORDS.fill(0, 0, blocks * 4 + 2);
}

/** The loaded bytes as noble's byte-wise functions want them. Good until the next `load`. */
export function loaded(length: number): Uint8Array {
  return BYTES.subarray(0, length);
}
