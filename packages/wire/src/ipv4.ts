/** IPv4 header (RFC 791). Offsets are from the first byte of the header; numbers are big-endian on the wire. */
import { checksum, foldSum, sumWords } from './checksum.ts';

/** Header without options, in bytes. */
export const IPV4_HEADER_LENGTH = 20;

export const Ipv4 = {
  VERSION_IHL: 0,
  TOS: 1,
  TOTAL_LENGTH: 2,
  ID: 4,
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
} as const;

export const IPV4_DF = 0x4000;
export const IPV4_MF = 0x2000;

export const IpProtocol = {
  HOPOPT: 0,
  ICMP: 1,
  IPV4: 4,
  TCP: 6,
  UDP: 17,
  IPV6: 41,
  ROUTING: 43,
  FRAGMENT: 44,
  ESP: 50,
  AH: 51,
  ICMPV6: 58,
  NONE: 59,
  DESTINATION: 60,
} as const;

/** What `checkIpv4` and `checkIpv6` found; numbers, since malformed packets are ordinary. */
export const IpCheck = {
  OK: 0,
  /** Fewer bytes than the header or the length field ask for. */
  TRUNCATED: 1,
  /** Version, header length, total length or checksum make no sense. */
  BAD: 2,
} as const;
export type IpCheck = (typeof IpCheck)[keyof typeof IpCheck];

/** Header length in bytes, options included. */
export function readIhl(view: DataView, at: number): number {
  return (view.getUint8(at) & 15) * 4;
}

export function readTotalLength(view: DataView, at: number): number {
  return view.getUint16(at + Ipv4.TOTAL_LENGTH);
}

/** Any fragment, the first included: MF set or offset above 0. */
export function isIpv4Fragment(view: DataView, at: number): boolean {
  return (view.getUint16(at + Ipv4.FRAGMENT) & 0x3fff) !== 0;
}

/** Whether `[start, end)` begins with a whole IPv4 packet; `verifyChecksum` false where hardware or the caller has. */
export function checkIpv4(view: DataView, start: number, end: number, verifyChecksum = true): IpCheck {
  // Literals where V8 sees them, each held to the table by its type, and one load for the first four fields: every packet
  // comes by here, on the outside and on the inside.
  const TRUNCATED: typeof IpCheck.TRUNCATED = 1;
  const BAD: typeof IpCheck.BAD = 2;
  if (end - start < 20) return TRUNCATED;
  const first = view.getInt32(start);
  const ihl = ((first >>> 24) & 15) * 4;
  if (first >>> 28 !== 4 || ihl < 20 || start + ihl > end) return BAD;
  const total = first & 0xffff;
  if (total < ihl) return BAD;
  if (start + total > end) return TRUNCATED;
  return verifyChecksum && !headerSumHolds(view, start, ihl) ? BAD : 0;
}

/** Whole words for the header without options, which nearly all are: half the time of `sumWords`. */
function headerSumHolds(view: DataView, at: number, ihl: number): boolean {
  if (ihl !== 20) return foldSum(sumWords(view, at, at + ihl, 0)) === 0xffff;
  const a = view.getInt32(at);
  const b = view.getInt32(at + 4);
  const c = view.getInt32(at + 8);
  const d = view.getInt32(at + 12);
  const e = view.getInt32(at + 16);
  const high = (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16) + (e >>> 16);
  const sum = high + (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff) + (e & 0xffff);
  const folded = (sum & 0xffff) + (sum >>> 16);
  return folded === 0xffff;
}

/** Fields of a header without options; addresses are copied from the arrays, 4 bytes each. */
export interface Ipv4Fields {
  readonly tos: number;
  readonly totalLength: number;
  readonly id: number;
  /** Flags and offset as on the wire. */
  readonly fragment: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Writes 20 bytes, checksum included. For templates and tests; the datapath patches a template. */
export function writeIpv4(view: DataView, at: number, fields: Ipv4Fields): void {
  view.setUint8(at, 0x45);
  view.setUint8(at + Ipv4.TOS, fields.tos);
  view.setUint16(at + Ipv4.TOTAL_LENGTH, fields.totalLength);
  view.setUint16(at + Ipv4.ID, fields.id);
  view.setUint16(at + Ipv4.FRAGMENT, fields.fragment);
  view.setUint8(at + Ipv4.TTL, fields.ttl);
  view.setUint8(at + Ipv4.PROTOCOL, fields.protocol);
  view.setUint16(at + Ipv4.CHECKSUM, 0);
  for (let i = 0; i < 4; i++) {
    view.setUint8(at + Ipv4.SOURCE + i, fields.source[i]!);
    view.setUint8(at + Ipv4.DESTINATION + i, fields.destination[i]!);
  }
  writeIpv4Checksum(view, at);
}

/** Computes and stores the header checksum. */
export function writeIpv4Checksum(view: DataView, at: number): void {
  view.setUint16(at + Ipv4.CHECKSUM, 0);
  view.setUint16(at + Ipv4.CHECKSUM, checksum(view, at, at + readIhl(view, at)));
}
