/**
 * The kernel's flow dissector (__skb_flow_dissect with bonding's keys, Linux 6.1), for the encap policies: through VLAN tags,
 * PPPoE, batman-adv, HSR, GRE, PPTP, IP in IP and IPv6 extension headers to the innermost addresses and ports. What it does
 * not look into (MPLS, ARP, UDP tunnels, ESP) ends the walk with what was found before.
 */
import { EtherType, IpProtocol } from '@espalier/wire';
import { type FlowWords, readIcmp, readIpv4Addresses, readIpv6Addresses, readPorts } from './flow-words.ts';

/** Headers after the first; one more ends the walk. Kernel: MAX_FLOW_DISSECT_HDRS. */
const MAX_HEADERS = 15;

const GRE = 47;
const MPLS_IN_IP = 137;

const BATMAN = 0x4305;
const TRANSPARENT_ETHERNET = 0x6558;
const RARP = 0x8035;
const MPLS_UNICAST = 0x8847;
const MPLS_MULTICAST = 0x8848;
const PPPOE_SESSION = 0x8864;
const PPP_IN_GRE = 0x880b;
const TIPC = 0x88ca;
const PTP = 0x88f7;
const PRP = 0x88fb;
const FCOE = 0x8906;
const HSR = 0x892f;

const PPP_IPV4 = 0x21;
const PPP_IPV6 = 0x57;
const PPP_MPLS_UNICAST = 0x281;
const PPP_MPLS_MULTICAST = 0x283;

const GRE_CHECKSUM = 0x8000;
const GRE_ROUTING = 0x4000;
const GRE_KEY = 0x2000;
const GRE_SEQUENCE = 0x1000;
const GRE_ACK = 0x0080;
const GRE_VERSION = 0x0007;

/** What a header says about going on. */
const GOOD = 0;
const BAD = 1;
/** Another header by EtherType. */
const TYPE_AGAIN = 2;
/** Another header by IP protocol. */
const PROTOCOL_AGAIN = 3;
const CONTINUE = 4;

/** Where the walk is; one per thread, as is the flow it fills. */
const walk = {
  view: null as unknown as DataView,
  at: 0,
  end: 0,
  first: 0,
  type: 0,
  protocol: 0,
  tags: 0,
  tagged: false,
};

/**
 * Fills `flow` from the header of EtherType `type` at `at`; false where the kernel falls back to the Ethernet hash. `tagged`:
 * a VLAN tag travels as metadata.
 */
export function dissectFlow(
  flow: FlowWords,
  view: DataView,
  at: number,
  end: number,
  type: number,
  tagged: boolean,
): boolean {
  flow.source = 0;
  flow.destination = 0;
  flow.ports = 0;
  flow.icmp = 0;
  flow.hasIcmpId = false;
  walk.view = view;
  walk.at = at;
  walk.end = end;
  walk.first = type;
  walk.type = type;
  walk.protocol = 0;
  walk.tags = 0;
  walk.tagged = tagged;
  let headers = 0;
  for (;;) {
    let next = byType(flow);
    if (next === BAD) return false;
    if (next === GOOD) return true;
    if (next === TYPE_AGAIN) {
      if (++headers > MAX_HEADERS) return true;
      continue;
    }
    do {
      next = byProtocol(flow);
      if (next === BAD) return false;
      // An IPv6 fragment has no ports; neither has what follows it.
      if (next === GOOD) return true;
      flow.ports = readPorts(view, walk.at, end, walk.protocol);
      if (next === CONTINUE || ++headers > MAX_HEADERS) return true;
    } while (next === PROTOCOL_AGAIN);
  }
}

function has(length: number): boolean {
  return walk.end - walk.at >= length;
}

function byType(flow: FlowWords): number {
  const { view } = walk;
  switch (walk.type) {
    case EtherType.IPV4: {
      const ihl = has(20) ? view.getUint8(walk.at) & 15 : 0;
      if (ihl < 5) return BAD;
      readIpv4Addresses(flow, view, walk.at);
      walk.protocol = view.getUint8(walk.at + 9);
      const fragment = (view.getUint16(walk.at + 6) & 0x3fff) !== 0;
      walk.at += ihl * 4;
      return fragment ? GOOD : CONTINUE;
    }
    case EtherType.IPV6:
      if (!has(40)) return BAD;
      readIpv6Addresses(flow, view, walk.at);
      walk.protocol = view.getUint8(walk.at + 6);
      walk.at += 40;
      return CONTINUE;
    case EtherType.VLAN:
    case EtherType.QINQ:
      return vlan();
    case PPPOE_SESSION:
      return pppoe();
    case TIPC:
      if (!has(16)) return BAD;
      flow.source = view.getInt32(walk.at + 12, true);
      flow.destination = 0;
      return GOOD;
    case BATMAN:
      // A unicast packet (0x40) of version 15, then an Ethernet header.
      if (!has(24) || view.getUint16(walk.at) !== 0x400f) return BAD;
      walk.type = view.getUint16(walk.at + 22);
      walk.at += 24;
      return TYPE_AGAIN;
    case PRP:
    case HSR:
      if (!has(6)) return BAD;
      walk.type = view.getUint16(walk.at + 4);
      walk.at += 6;
      return TYPE_AGAIN;
    case PTP:
      return has(34) ? GOOD : BAD;
    case FCOE:
      // Behind GRE a kernel that aligns IP headers (NET_IP_ALIGN; not x86, not arm64) says BAD.
      return has(38) ? GOOD : BAD;
    case MPLS_UNICAST:
    case MPLS_MULTICAST:
    case EtherType.ARP:
    case RARP:
      // Bonding asks for no key of theirs.
      return GOOD;
    default:
      return BAD;
  }
}

function vlan(): number {
  const { view } = walk;
  // The first tag that is met, however deep, the kernel takes for the one that travels as metadata: it goes on here with the
  // frame's own type. In front of everything else that is the same tag again.
  if (walk.tags++ === 0 && walk.tagged) {
    walk.type = walk.first;
    return TYPE_AGAIN;
  }
  if (!has(4)) return BAD;
  walk.type = view.getUint16(walk.at + 2);
  walk.at += 4;
  return TYPE_AGAIN;
}

function pppoe(): number {
  const { view } = walk;
  // Version 1, type 1, code 0 (RFC 2516 4).
  if (!has(8) || view.getUint16(walk.at) !== 0x1100) return BAD;
  const protocol = view.getUint16(walk.at + 6);
  walk.at += 8;
  if (protocol === PPP_IPV4) walk.type = EtherType.IPV4;
  else if (protocol === PPP_IPV6) walk.type = EtherType.IPV6;
  else if (protocol === PPP_MPLS_UNICAST) walk.type = MPLS_UNICAST;
  else if (protocol === PPP_MPLS_MULTICAST) walk.type = MPLS_MULTICAST;
  // Any other protocol of two bytes (RFC 1661 2); a compressed one is not looked into.
  else return (protocol & 0x0101) === 0x0001 ? GOOD : BAD;
  return TYPE_AGAIN;
}

function byProtocol(flow: FlowWords): number {
  const { view } = walk;
  switch (walk.protocol) {
    case GRE:
      return gre();
    case IpProtocol.HOPOPT:
    case IpProtocol.ROUTING:
    case IpProtocol.DESTINATION:
      if (walk.type !== EtherType.IPV6) return CONTINUE;
      if (!has(2)) return BAD;
      walk.protocol = view.getUint8(walk.at);
      walk.at += (view.getUint8(walk.at + 1) + 1) * 8;
      return PROTOCOL_AGAIN;
    case IpProtocol.FRAGMENT:
      if (walk.type !== EtherType.IPV6) return CONTINUE;
      return has(8) ? GOOD : BAD;
    case IpProtocol.IPV4:
      walk.type = EtherType.IPV4;
      return TYPE_AGAIN;
    case IpProtocol.IPV6:
      walk.type = EtherType.IPV6;
      return TYPE_AGAIN;
    case MPLS_IN_IP:
      walk.type = MPLS_UNICAST;
      return TYPE_AGAIN;
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6:
      readIcmp(flow, view, walk.at, walk.end);
      return CONTINUE;
    default:
      return CONTINUE;
  }
}

/** RFC 2784, 2890; version 1 is PPTP's (RFC 2637). */
function gre(): number {
  const { view, at } = walk;
  if (!has(4)) return BAD;
  const flags = view.getUint16(at);
  const version = flags & GRE_VERSION;
  // GOOD would skip the ports; here the kernel still looks for them, and a GRE header has none.
  if ((flags & GRE_ROUTING) !== 0 || version > 1) return CONTINUE;
  walk.type = view.getUint16(at + 2);
  if (version === 1 && !(walk.type === PPP_IN_GRE && (flags & GRE_KEY) !== 0)) return CONTINUE;
  let length = 4;
  if ((flags & GRE_CHECKSUM) !== 0) length += 4;
  if ((flags & GRE_KEY) !== 0) {
    if (!has(length + 4)) return BAD;
    length += 4;
  }
  if ((flags & GRE_SEQUENCE) !== 0) length += 4;
  if (version === 0) {
    if (walk.type === TRANSPARENT_ETHERNET) {
      if (!has(length + 14)) return BAD;
      walk.type = view.getUint16(at + length + 12);
      length += 14;
    }
  } else {
    if ((flags & GRE_ACK) !== 0) length += 4;
    if (!has(length + 4)) return BAD;
    const protocol = view.getUint16(at + length + 2);
    if (protocol === PPP_IPV4) walk.type = EtherType.IPV4;
    else if (protocol === PPP_IPV6) walk.type = EtherType.IPV6;
    length += 4;
  }
  walk.at += length;
  return TYPE_AGAIN;
}
