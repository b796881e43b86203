/** Longest payload that an IP packet can carry, rounded up. One per thread. */
const BYTES: Uint8Array = new Uint8Array(65_536);

/** The scratch as words of the machine's own byte order. */
export const WORDS: Uint32Array = new Uint32Array(BYTES.buffer);

/**
 * Copies `bytes[start, end)` into memory of this thread alone: aligned, which a payload behind an Ethernet header is not,
 * and where nobody else can watch or change it. Zeros fill the last 16-byte block. Returns the number of blocks.
 */
export function load(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const blocks = (length + 15) >>> 4;
  BYTES.set(bytes.subarray(start, end));
  for (let i = length; i < blocks * 16; i++) BYTES[i] = 0;
  return blocks;
}

/** Copies as many bytes back to `bytes[start, end)`. */
export function store(bytes: Uint8Array, start: number, end: number): void {
  bytes.set(BYTES.subarray(0, end - start), start);
}

/** Zeros behind the first `length` bytes up to the end of their block. */
export function trim(length: number): void {
  for (let i = length; i & 15; i++) BYTES[i] = 0;
}

/** Forgets plaintext. */
export function clear(blocks: number): void {
  WORDS.fill(0, 0, blocks * 4);
}

/** The loaded bytes as noble's byte-wise functions want them. Good until the next `load`. */
export function loaded(length: number): Uint8Array {
  return BYTES.subarray(0, length);
}
