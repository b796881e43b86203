import type { PacketSelector } from './policy.ts';

/** 32-bit words of a selector's addresses, source and destination side by side as in either IP header. */
export function wordsOf({ source, destination }: PacketSelector): number[] {
  return [source, destination].flatMap(({ buffer, byteOffset, byteLength }) => {
    const view = new DataView(buffer, byteOffset, byteLength);
    return Array.from({ length: byteLength / 4 }, (_, i) => view.getInt32(4 * i));
  });
}

/** The bits of those words that the selector's prefixes ask for. */
export function maskOf({ source, sourceBits, destinationBits }: PacketSelector): number[] {
  return [sourceBits, destinationBits].flatMap((bits) =>
    Array.from({ length: source.length / 4 }, (_, i) => {
      const left = Math.max(0, Math.min(32, bits - 32 * i));
      // A shift by 32 is a shift by 0 in JS.
      return left === 0 ? 0 : -1 << (32 - left);
    }),
  );
}
