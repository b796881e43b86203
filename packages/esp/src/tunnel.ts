import {
  type Burst,
  checkIpv4,
  checkIpv6,
  IPV6_HEADER_LENGTH,
  IpCheck,
  Ipv4,
  Ipv6,
  Row,
  readTotalLength,
  readTrafficClass,
  updateChecksum,
  writeTrafficClass,
} from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';

const DROP = 4;

/**
 * RFC 6040 4.2, figure 4: the ECN field that leaves the tunnel, by inner * 4 + outer. Not-ECT inside and CE outside is
 * dropped: the packet could not carry the mark, and its sender would not understand it.
 */
export const ECN_DECAP: Uint8Array = Uint8Array.of(
  // outer Not-ECT, ECT(1), ECT(0), CE; inner Not-ECT
  ...[0, 0, 0, DROP],
  // inner ECT(1)
  ...[1, 1, 1, 3],
  // inner ECT(0)
  ...[2, 1, 2, 3],
  // inner CE
  ...[3, 3, 3, 3],
);

/**
 * The inner IPv4 packet at `inner`, plaintext up to `end`: header check, TFC trim (RFC 4303 2.7: what lies behind the
 * inner packet is padding), ECN. Sets END, or returns a DropReason.
 */
export function unwrap4(burst: Burst, r: number, inner: number, end: number): number {
  const { rows, slab } = burst;
  const { bytes, view } = slab;
  if (checkIpv4(view, inner, end, false) !== IpCheck.OK) return DropReason.BAD_INNER;
  const tos = bytes[inner + Ipv4.TOS]!;
  const ecn = ECN_DECAP[((tos & 3) << 2) | rows[r + Row.ECN]!]!;
  if (ecn === DROP) return DropReason.ECN;
  rows[r + Row.END] = inner + readTotalLength(view, inner);
  if (ecn !== (tos & 3)) {
    const before = view.getUint16(inner);
    bytes[inner + Ipv4.TOS] = (tos & 0xfc) | ecn;
    const sum = view.getUint16(inner + Ipv4.CHECKSUM);
    view.setUint16(inner + Ipv4.CHECKSUM, updateChecksum(sum, before, view.getUint16(inner)));
  }
  return 0;
}

/** The same for IPv6. */
export function unwrap6(burst: Burst, r: number, inner: number, end: number): number {
  const { rows, slab } = burst;
  const { view } = slab;
  if (checkIpv6(view, inner, end) !== IpCheck.OK) return DropReason.BAD_INNER;
  const traffic = readTrafficClass(view, inner);
  const ecn = ECN_DECAP[((traffic & 3) << 2) | rows[r + Row.ECN]!]!;
  if (ecn === DROP) return DropReason.ECN;
  rows[r + Row.END] = inner + IPV6_HEADER_LENGTH + view.getUint16(inner + Ipv6.PAYLOAD_LENGTH);
  if (ecn !== (traffic & 3)) writeTrafficClass(view, inner, (traffic & 0xfc) | ecn);
  return 0;
}
