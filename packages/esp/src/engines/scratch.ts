/** Longest payload that an IP packet can carry, rounded up. One per thread. */
const BYTES: Uint8Array = new Uint8Array(65_536);

/** The scratch as words of the machine's own byte order. */
export const WORDS: Uint32Array = new Uint32Array(BYTES.buffer);
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

let seen: Uint8Array | null = null;
let view: DataView = new DataView(BYTES.buffer);

/** By words: V8's own copy goes byte by byte where memory is shared and its ends are not aligned alike. */
function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== seen) {
    seen = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  return view;
}

/**
 * Copies `bytes[start, end)` into memory of this thread alone: aligned, which a payload behind an Ethernet header is not,
 * and where nobody else can watch or change it. Zeros fill the last 16-byte block. Returns the number of blocks.
 */
export function load(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const from = viewOf(bytes);
  const words = length >>> 2;
  for (let i = 0, at = start; i < words; i++, at += 4) WORDS[i] = from.getUint32(at, LITTLE);
  for (let i = words * 4; i < length; i++) BYTES[i] = bytes[start + i]!;
  trim(length);
  return (length + 15) >>> 4;
}

/** Copies as many bytes back to `bytes[start, end)`. */
export function store(bytes: Uint8Array, start: number, end: number): void {
  const length = end - start;
  const to = viewOf(bytes);
  const words = length >>> 2;
  for (let i = 0, at = start; i < words; i++, at += 4) to.setUint32(at, WORDS[i]!, LITTLE);
  for (let i = words * 4; i < length; i++) bytes[start + i] = BYTES[i]!;
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
