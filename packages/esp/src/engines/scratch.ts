/** Longest payload that an IP packet can carry, rounded up. One per thread. */
const SCRATCH: Uint8Array = new Uint8Array(65_536);

/**
 * A copy of `bytes[start, end)` in memory of this thread alone, aligned: noble works on 4-byte words, which a payload
 * behind an Ethernet header is not aligned to, and nobody else can watch or change it meanwhile. Good until the next call.
 */
export function take(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const copy = SCRATCH.subarray(0, end - start);
  copy.set(bytes.subarray(start, end));
  return copy;
}
