import {
  type FrameSlab,
  ICMP_HEADER_LENGTH,
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpProtocol,
  Ipv4,
  Ipv6,
  Row,
  readIhl,
  readTooBig,
  UDP_HEADER_LENGTH,
  Udp,
  walkIpv6,
} from '@espalier/wire';
import type { EspOutbound } from './outbound.ts';
import { LEAST_MTU_4, LEAST_MTU_6, type PathMtu } from './path-mtu.ts';

/** Outbound SAs by SPI; several peers may have chosen the same one. */
export type OutboundBySpi = ReadonlyMap<number, readonly EspOutbound[]>;

/**
 * An ICMP error about an outer packet (RFC 4301 8.2.1) is not authenticated: anyone can send one. Believed is only a
 * too-big report that quotes the addresses and SPI of one of our SAs and a number that SA sent lately, with an MTU below
 * the SA's and not below what every host takes. Then the SA's path MTU is lowered. Returns whether the packet was about
 * an SA of ours at all, believed or not. Row `r` has L3 set; its packet ends at END.
 */
export function judgeOuterError(
  slab: FrameSlab,
  r: number,
  sas: OutboundBySpi,
  learned: PathMtu,
  nowMs: number,
): boolean {
  const { rows, view } = slab;
  const l3 = rows[r + Row.L3]!;
  const six = view.getUint8(l3) >> 4 === 6;
  let icmp: number;
  let end: number;
  if (six) {
    end = l3 + IPV6_HEADER_LENGTH + view.getUint16(l3 + Ipv6.PAYLOAD_LENGTH);
    const walk = walkIpv6(view, l3, end);
    if (walk < 0 || walk % 256 !== IpProtocol.ICMPV6) return false;
    icmp = Math.floor(walk / 256);
  } else {
    if (view.getUint8(l3 + Ipv4.PROTOCOL) !== IpProtocol.ICMP) return false;
    icmp = l3 + readIhl(view, l3);
    end = l3 + view.getUint16(l3 + Ipv4.TOTAL_LENGTH);
  }
  const mtu = readTooBig(view, l3, icmp, end, six);
  if (mtu === 0) return false;
  const quote = icmp + ICMP_HEADER_LENGTH;
  const esp = quotedEsp(view, quote, end, six);
  if (esp < 0) return false;
  const port = quotedPort(view, quote, esp, six);
  const sa = sas
    .get(view.getUint32(esp))
    ?.find((s) => sameAddresses(s, view, quote, six) && (s.ticket.encap?.dport ?? 0) === port);
  if (!sa) return false;
  const least = six ? LEAST_MTU_6 : LEAST_MTU_4;
  if (mtu >= least && mtu < sa.ticket.mtu && sa.sentLately(view.getUint32(esp + 4)))
    learned.learn(sa.ticket.slot, mtu, nowMs);
  return true;
}

/** UDP destination port in front of the quoted ESP header, 0 where there is no UDP. The source port may follow the flow. */
function quotedPort(view: DataView, quote: number, esp: number, six: boolean): number {
  const protocol = six ? walkIpv6(view, quote, esp) % 256 : view.getUint8(quote + Ipv4.PROTOCOL);
  return protocol === IpProtocol.UDP ? view.getUint16(esp - UDP_HEADER_LENGTH + Udp.DESTINATION_PORT) : 0;
}

/** Offset of the quoted ESP header, in UDP or not (8 bytes of it are there), or -1. */
function quotedEsp(view: DataView, quote: number, end: number, six: boolean): number {
  if (quote + (six ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH) > end) return -1;
  if (view.getUint8(quote) >> 4 !== (six ? 6 : 4)) return -1;
  let protocol: number;
  let at: number;
  if (six) {
    const walk = walkIpv6(view, quote, end);
    if (walk < 0) return -1;
    protocol = walk % 256;
    at = Math.floor(walk / 256);
  } else {
    if ((view.getUint16(quote + Ipv4.FRAGMENT) & 0x1fff) !== 0) return -1;
    protocol = view.getUint8(quote + Ipv4.PROTOCOL);
    at = quote + readIhl(view, quote);
  }
  if (protocol === IpProtocol.UDP) {
    at += UDP_HEADER_LENGTH;
  } else if (protocol !== IpProtocol.ESP) return -1;
  return at + 8 <= end ? at : -1;
}

function sameAddresses(sa: EspOutbound, view: DataView, quote: number, six: boolean): boolean {
  const { source, destination } = sa.ticket;
  const size = six ? 16 : 4;
  if (source.length !== size) return false;
  const from = quote + (six ? Ipv6.SOURCE : Ipv4.SOURCE);
  for (let i = 0; i < size; i++)
    if (view.getUint8(from + i) !== source[i] || view.getUint8(from + size + i) !== destination[i]) return false;
  return true;
}
