/**
 * The transmit hashes of Linux's bonding driver, bit for bit with a little-endian kernel's skb path (bond_xmit_hash): the
 * outermost VLAN tag travels as metadata, a local socket's own hash is left out. The slave is `usable[hash % usable.length]`.
 */
import { EtherType, IpProtocol } from '@espalier/wire';
import { dissectFlow } from './flow-dissect.ts';
import { type FlowWords, readIcmp, readIpv4Addresses, readIpv6Addresses, readPorts } from './flow-words.ts';

/** As in the kernel's documentation (networking/bonding), in the order of its numbers. */
export type XmitHashPolicy = 'layer2' | 'layer3+4' | 'layer2+3' | 'encap2+3' | 'encap3+4' | 'vlan+srcmac';
export const XMIT_HASH_POLICIES: readonly XmitHashPolicy[] = [
  'layer2',
  'layer3+4',
  'layer2+3',
  'encap2+3',
  'encap3+4',
  'vlan+srcmac',
];

const ETHERNET = 14;
/** Keeps a frame whose protocol is not to be looked at apart from protocol 0. */
const UNKNOWN = -1;

/** One scratch per thread, overwritten by every call. */
const flow: FlowWords = { source: 0, destination: 0, ports: 0, icmp: 0, hasIcmpId: false };

/**
 * The 32-bit hash (unsigned) of the Ethernet frame `[start, end)`, which has no frame check sequence. `tag` is the outermost
 * VLAN tag that travels as metadata, as in Row.TCI: 0x10000 | TCI, 0 = none. A tag inside the frame hides the IP header from
 * the layer policies, as it does in the kernel; the encap policies look behind it. Never reads outside `[start, end)`.
 */
export function xmitHash(policy: XmitHashPolicy, view: DataView, start: number, end: number, tag = 0): number {
  if (end - start < ETHERNET) return 0;
  if (policy === 'vlan+srcmac') return vlanSrcmac(view, start, tag);
  if (policy === 'layer2') return ethernetHash(view, start);
  const at = start + ETHERNET;
  const type = view.getUint16(start + 12);
  const encap = policy === 'encap2+3' || policy === 'encap3+4';
  if (!(encap ? dissectFlow(flow, view, at, end, type, tag !== 0) : dissect(view, at, end, type)))
    return ethernetHash(view, start);
  if (policy === 'layer2+3' || policy === 'encap2+3')
    return fold(ethernetHash(view, start) ^ flow.source ^ flow.destination) >>> 0;
  return layer34();
}

/** layer3+4 of a bare IP packet, for lowers without a link header; 0 where there is no whole IP header. */
export function xmitHashIp(view: DataView, start: number, end: number): number {
  const type = end > start && view.getUint8(start) >> 4 === 6 ? EtherType.IPV6 : EtherType.IPV4;
  return dissect(view, start, end, type) ? layer34() : 0;
}

/** layer3+4 of what is known of a bare ESP header, its SPI, for lowers that are sockets. */
export function xmitHashEsp(view: DataView, start: number, end: number): number {
  return end - start < 4 ? 0 : fold(view.getInt32(start, true)) >>> 1;
}

function layer34(): number {
  return fold((flow.hasIcmpId ? flow.icmp : flow.ports) ^ flow.source ^ flow.destination) >>> 1;
}

function ethernetHash(view: DataView, start: number): number {
  return view.getUint8(start + 5) ^ view.getUint8(start + 11) ^ view.getUint16(start + 12);
}

function vlanSrcmac(view: DataView, start: number, tag: number): number {
  const vendor = (view.getUint8(start + 6) << 16) | view.getUint16(start + 7);
  const device = (view.getUint8(start + 9) << 16) | view.getUint16(start + 10);
  return (tag & 0xffff) ^ vendor ^ device;
}

function fold(hash: number): number {
  hash ^= hash >>> 16;
  return hash ^ (hash >>> 8);
}

/**
 * Fills `flow` for the layer policies; false where the kernel falls back to the Ethernet hash. IPv6 extension headers are
 * not walked: whatever comes first is the protocol. Kernel: bond_flow_dissect, bond_flow_ip.
 */
function dissect(view: DataView, at: number, end: number, type: number): boolean {
  let protocol: number;
  let l4: number;
  flow.hasIcmpId = false;
  if (type === EtherType.IPV4) {
    if (end - at < 20) return false;
    readIpv4Addresses(flow, view, at);
    l4 = at + (view.getUint8(at) & 15) * 4;
    protocol = protocolOf4(view, at);
  } else if (type === EtherType.IPV6) {
    if (end - at < 40) return false;
    readIpv6Addresses(flow, view, at);
    l4 = at + 40;
    protocol = view.getUint8(at + 6);
  } else return false;
  flow.ports = readPorts(view, l4, end, protocol);
  if (protocol !== IpProtocol.ICMP && protocol !== IpProtocol.ICMPV6) return true;
  readIcmp(flow, view, l4, end);
  return !isIcmpError(view, l4, end, protocol) || quoted(view, l4 + 8, end, type);
}

/** Any fragment, the first included, has neither ports nor ICMP. */
function protocolOf4(view: DataView, at: number): number {
  return (view.getUint16(at + 6) & 0x3fff) !== 0 ? UNKNOWN : view.getUint8(at + 9);
}

function isIcmpError(view: DataView, l4: number, end: number, protocol: number): boolean {
  if (l4 + 8 > end) return false;
  const kind = view.getUint8(l4);
  if (protocol === IpProtocol.ICMPV6) return kind >= 1 && kind <= 4;
  return kind === 3 || kind === 4 || kind === 5 || kind === 11 || kind === 12;
}

/** An ICMP error is hashed as the packet it quotes, of the same family; ICMP inside a quote has no identifier. */
function quoted(view: DataView, at: number, end: number, type: number): boolean {
  if (type === EtherType.IPV4) {
    if (end - at < 20) return false;
    readIpv4Addresses(flow, view, at);
    flow.ports = readPorts(view, at + (view.getUint8(at) & 15) * 4, end, protocolOf4(view, at));
  } else {
    if (end - at < 40) return false;
    readIpv6Addresses(flow, view, at);
    flow.ports = readPorts(view, at + 40, end, view.getUint8(at + 6));
  }
  return true;
}
