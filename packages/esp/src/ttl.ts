import { Ipv4, Ipv6, updateChecksum } from '@espalier/wire';

/** Counts the TTL or hop limit of the IP packet at `at` down (RFC 4301 5.1.2); false when it has none left to give. */
export function decrementTtl(view: DataView, at: number): boolean {
  if (view.getUint8(at) >> 4 === 6) {
    const hops = view.getUint8(at + Ipv6.HOP_LIMIT);
    if (hops <= 1) return false;
    view.setUint8(at + Ipv6.HOP_LIMIT, hops - 1);
    return true;
  }
  const before = view.getUint16(at + Ipv4.TTL);
  if (before >> 8 <= 1) return false;
  view.setUint16(at + Ipv4.TTL, before - 0x100);
  const sum = view.getUint16(at + Ipv4.CHECKSUM);
  view.setUint16(at + Ipv4.CHECKSUM, updateChecksum(sum, before, before - 0x100));
  return true;
}
