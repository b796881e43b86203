/** The Internet checksum (RFC 1071) and its incremental update (RFC 1624). */

/** Adds the 16-bit big-endian words of `[start, end)` to `sum`; an odd last byte counts as the high half. No fold. */
export function sumWords(view: DataView, start: number, end: number, sum: number): number {
  let at = start;
  // At most 32 Ki words of at most 0xffff: the sum stays an exact double, and below 2^32 for any packet.
  for (; at + 1 < end; at += 2) sum += view.getUint16(at);
  if (at < end) sum += view.getUint8(at) << 8;
  return sum;
}

/** Folds carries until 16 bits are left. */
export function foldSum(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum of `[start, end)`, on top of an unfolded `sum` (a pseudo header, for instance). */
export function checksum(view: DataView, start: number, end: number, sum = 0): number {
  return ~foldSum(sumWords(view, start, end, sum)) & 0xffff;
}

/** Unfolded sum of an IPv4 pseudo header (RFC 768, RFC 9293); addresses are those of the header at `ipAt`. */
export function pseudoHeaderIpv4(view: DataView, ipAt: number, protocol: number, length: number): number {
  return sumWords(view, ipAt + 12, ipAt + 20, protocol + length);
}

/** Unfolded sum of an IPv6 pseudo header (RFC 8200 8.1). */
export function pseudoHeaderIpv6(view: DataView, ipAt: number, protocol: number, length: number): number {
  return sumWords(view, ipAt + 8, ipAt + 40, protocol + (length >>> 16) + (length & 0xffff));
}

/** The checksum after a 16-bit word changed from `before` to `after` (RFC 1624 eqn. 3). */
export function updateChecksum(sum: number, before: number, after: number): number {
  return ~foldSum((~sum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}

/** The same for a 32-bit field at an even offset. */
export function updateChecksum32(sum: number, before: number, after: number): number {
  return updateChecksum(updateChecksum(sum, before >>> 16, after >>> 16), before & 0xffff, after & 0xffff);
}
