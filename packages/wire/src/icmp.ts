/** The two errors that say a packet was too big: ICMP type 3 code 4 (RFC 792, RFC 1191) and ICMPv6 type 2 (RFC 4443 3.2). */
import { checksum, pseudoHeaderIpv6 } from './checksum.ts';
import { IPV4_HEADER_LENGTH, IpProtocol, Ipv4, readIhl, writeIpv4 } from './ipv4.ts';
import { IPV6_HEADER_LENGTH, Ipv6, walkIpv6, writeIpv6 } from './ipv6.ts';

export const ICMP_HEADER_LENGTH = 8;

export const Icmp = {
  UNREACHABLE: 3,
  FRAGMENTATION_NEEDED: 4,
  SOURCE_QUENCH: 4,
  REDIRECT: 5,
  TIME_EXCEEDED: 11,
  PARAMETER: 12,
} as const;
export const Icmpv6 = { PACKET_TOO_BIG: 2, FIRST_INFORMATIONAL: 128 } as const;

/** Bytes of a whole error over IPv4 (RFC 1812 4.3.2.3) and over IPv6 (RFC 4443 2.4 (c)). */
const MOST_4 = 576;
const MOST_6 = 1280;

/**
 * Whether an error about the whole IP packet `[start, end)` may be sent to its source: not about errors, later fragments,
 * packets from or to many, or from nobody (RFC 1122 3.2.2, RFC 4443 2.4 (e)).
 */
export function mayAnswer(view: DataView, start: number, end: number): boolean {
  return view.getUint8(start) >> 4 === 6 ? mayAnswer6(view, start, end) : mayAnswer4(view, start, end);
}

function mayAnswer4(view: DataView, start: number, end: number): boolean {
  if ((view.getUint16(start + Ipv4.FRAGMENT) & 0x1fff) !== 0) return false;
  const from = view.getUint8(start + Ipv4.SOURCE);
  if (from === 0 || from === 127 || from >= 224 || view.getUint8(start + Ipv4.DESTINATION) >= 224) return false;
  if (view.getUint8(start + Ipv4.PROTOCOL) !== IpProtocol.ICMP) return true;
  const at = start + readIhl(view, start);
  if (at >= end) return false;
  const type = view.getUint8(at);
  return (
    type !== Icmp.UNREACHABLE &&
    type !== Icmp.SOURCE_QUENCH &&
    type !== Icmp.REDIRECT &&
    type !== Icmp.TIME_EXCEEDED &&
    type !== Icmp.PARAMETER
  );
}

function mayAnswer6(view: DataView, start: number, end: number): boolean {
  const from = start + Ipv6.SOURCE;
  if (view.getUint8(from) === 0xff) return false;
  if (view.getUint32(from) === 0 && view.getUint32(from + 4) === 0 && view.getUint32(from + 8) === 0) {
    // Unspecified and loopback.
    if (view.getUint32(from + 12) <= 1) return false;
  }
  const walk = walkIpv6(view, start, end);
  if (walk < 0 || walk % 256 !== IpProtocol.ICMPV6) return true;
  const at = Math.floor(walk / 256);
  return at < end && view.getUint8(at) >= Icmpv6.FIRST_INFORMATIONAL;
}

/**
 * Writes the error that answers the packet `[start, end)` at `at`: IP header, ICMP header, and as much of the packet as
 * goes in. `mtu` is the largest packet that would have passed, `from` the address of the one who says so (4 or 16 bytes,
 * the packet's family). Returns the offset behind it. `bytes` and `view` are one memory; 1280 bytes at `at` are free.
 */
export function writeTooBig(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  start: number,
  end: number,
  mtu: number,
  from: Uint8Array,
): number {
  const six = view.getUint8(start) >> 4 === 6;
  const icmp = at + (six ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH);
  const quote = icmp + ICMP_HEADER_LENGTH;
  const quoted = Math.min(end - start, (six ? MOST_6 : MOST_4) - (quote - at));
  bytes.copyWithin(quote, start, start + quoted);
  const last = quote + quoted;
  if (six) {
    const to = bytes.slice(start + Ipv6.SOURCE, start + Ipv6.SOURCE + 16);
    writeIpv6(view, at, {
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: last - icmp,
      nextHeader: IpProtocol.ICMPV6,
      hopLimit: 64,
      source: from,
      destination: to,
    });
    view.setUint16(icmp, Icmpv6.PACKET_TOO_BIG << 8);
    view.setUint16(icmp + 2, 0);
    view.setUint32(icmp + 4, mtu);
    view.setUint16(icmp + 2, checksum(view, icmp, last, pseudoHeaderIpv6(view, at, IpProtocol.ICMPV6, last - icmp)));
    return last;
  }
  writeIpv4(view, at, {
    tos: 0xc0,
    totalLength: last - at,
    id: 0,
    fragment: 0,
    ttl: 64,
    protocol: IpProtocol.ICMP,
    source: from,
    destination: bytes.slice(start + Ipv4.SOURCE, start + Ipv4.SOURCE + 4),
  });
  view.setUint16(icmp, (Icmp.UNREACHABLE << 8) | Icmp.FRAGMENTATION_NEEDED);
  view.setUint16(icmp + 2, 0);
  view.setUint32(icmp + 4, Math.min(mtu, 0xffff));
  view.setUint16(icmp + 2, checksum(view, icmp, last));
  return last;
}

/**
 * The MTU that the ICMP message at `icmp` (`v6`: ICMPv6) reports, or 0 when it is another message, cut short, or its
 * checksum is wrong. `l3` is the IP header in front of it, `end` the end of the IP packet; the packet that was too big is
 * quoted from `icmp + 8` on. A router that reports no MTU (before RFC 1191) gives 0 too.
 */
export function readTooBig(view: DataView, l3: number, icmp: number, end: number, v6: boolean): number {
  if (end - icmp < ICMP_HEADER_LENGTH) return 0;
  const type = view.getUint16(icmp);
  if (v6) {
    if (type >> 8 !== Icmpv6.PACKET_TOO_BIG) return 0;
    const sum = pseudoHeaderIpv6(view, l3, IpProtocol.ICMPV6, end - icmp);
    return checksum(view, icmp, end, sum) === 0 ? view.getUint32(icmp + 4) : 0;
  }
  if (type !== ((Icmp.UNREACHABLE << 8) | Icmp.FRAGMENTATION_NEEDED)) return 0;
  return checksum(view, icmp, end) === 0 ? view.getUint16(icmp + 6) : 0;
}
