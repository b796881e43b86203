/** IPv6 header and the walk over extension headers (RFC 8200). */
import { IpCheck, IpProtocol } from './ipv4.ts';

export const IPV6_HEADER_LENGTH = 40;

export const Ipv6 = {
  VERSION_CLASS_FLOW: 0,
  PAYLOAD_LENGTH: 4,
  NEXT_HEADER: 6,
  HOP_LIMIT: 7,
  SOURCE: 8,
  DESTINATION: 24,
} as const;

/** Extension headers walked before giving up; a chain is the sender's to make long and ours to keep short. */
export const IPV6_MAX_EXTENSIONS = 8;

/** Whether `[start, end)` begins with a whole IPv6 packet. Jumbograms (payload length 0) are not taken. */
export function checkIpv6(view: DataView, start: number, end: number): IpCheck {
  if (end - start < IPV6_HEADER_LENGTH) return IpCheck.TRUNCATED;
  if (view.getUint8(start) >> 4 !== 6) return IpCheck.BAD;
  if (start + IPV6_HEADER_LENGTH + view.getUint16(start + Ipv6.PAYLOAD_LENGTH) > end) return IpCheck.TRUNCATED;
  return IpCheck.OK;
}

/** Traffic class: DSCP and ECN. */
export function readTrafficClass(view: DataView, at: number): number {
  return (view.getUint16(at) >> 4) & 0xff;
}

export function writeTrafficClass(view: DataView, at: number, trafficClass: number): void {
  view.setUint16(at, (view.getUint16(at) & 0xf00f) | (trafficClass << 4));
}

/** Results of `walkIpv6`: an upper-layer offset times 256 plus its protocol, or one of these. */
export const Ipv6Walk = {
  /** A fragment header stands in the way. */
  FRAGMENT: -1,
  /** A header reaches beyond the packet. */
  TRUNCATED: -2,
  /** More than IPV6_MAX_EXTENSIONS headers. */
  TOO_LONG: -3,
} as const;

/**
 * Walks hop-by-hop, routing and destination options from the header at `at`; `end` bounds the packet and the fixed
 * header is inside it. Returns `offset * 256 + protocol` of the first other header, or an Ipv6Walk value (below 0).
 */
export function walkIpv6(view: DataView, at: number, end: number): number {
  let next = view.getUint8(at + Ipv6.NEXT_HEADER);
  let offset = at + IPV6_HEADER_LENGTH;
  for (let i = 0; i <= IPV6_MAX_EXTENSIONS; i++) {
    if (next === IpProtocol.FRAGMENT) return Ipv6Walk.FRAGMENT;
    if (next !== IpProtocol.HOPOPT && next !== IpProtocol.ROUTING && next !== IpProtocol.DESTINATION)
      return offset * 256 + next;
    if (offset + 8 > end) return Ipv6Walk.TRUNCATED;
    next = view.getUint8(offset);
    offset += 8 * (view.getUint8(offset + 1) + 1);
    if (offset > end) return Ipv6Walk.TRUNCATED;
  }
  return Ipv6Walk.TOO_LONG;
}

export interface Ipv6Fields {
  readonly trafficClass: number;
  readonly flowLabel: number;
  readonly payloadLength: number;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Writes 40 bytes; addresses have 16 each. */
export function writeIpv6(view: DataView, at: number, fields: Ipv6Fields): void {
  view.setUint32(at, (0x6000_0000 | (fields.trafficClass << 20) | (fields.flowLabel & 0xf_ffff)) >>> 0);
  view.setUint16(at + Ipv6.PAYLOAD_LENGTH, fields.payloadLength);
  view.setUint8(at + Ipv6.NEXT_HEADER, fields.nextHeader);
  view.setUint8(at + Ipv6.HOP_LIMIT, fields.hopLimit);
  for (let i = 0; i < 16; i++) {
    view.setUint8(at + Ipv6.SOURCE + i, fields.source[i]!);
    view.setUint8(at + Ipv6.DESTINATION + i, fields.destination[i]!);
  }
}
