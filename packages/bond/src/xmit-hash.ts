/**
 * The transmit hashes of Linux's bonding driver, bit for bit with a little-endian kernel's skb path (bond_xmit_hash).
 * The slave is `usable[hash % usable.length]`. The encap policies are not here yet.
 */
import { EtherType, IpProtocol } from '@espalier/wire';

/** As in the kernel's documentation (networking/bonding). */
export type XmitHashPolicy = 'layer2' | 'layer3+4' | 'layer2+3' | 'vlan+srcmac';
export const XMIT_HASH_POLICIES: readonly XmitHashPolicy[] = ['layer2', 'layer3+4', 'layer2+3', 'vlan+srcmac'];

const ETHERNET = 14;
const DCCP = 33;
const SCTP = 132;
const UDPLITE = 136;

/** Words of a dissected flow; one scratch per thread, overwritten by every call. */
const flow = { source: 0, destination: 0, ports: 0, icmp: 0, hasIcmpId: false };

/**
 * The 32-bit hash (unsigned) of the Ethernet frame `[start, end)`. `tci` is the outermost VLAN tag travelling as
 * metadata (0 = none); an in-band tag hides the IP header from the layer 3 policies, as it does in the kernel.
 */
export function xmitHash(policy: XmitHashPolicy, view: DataView, start: number, end: number, tci = 0): number {
  if (policy === 'vlan+srcmac') return vlanSrcmac(view, start, end, tci);
  const ethernet = ethernetHash(view, start, end);
  if (policy === 'layer2' || end - start < ETHERNET) return ethernet;
  if (!dissect(view, start + ETHERNET, end, view.getUint16(start + 12), true)) return ethernet;
  if (policy === 'layer2+3') return fold(ethernet ^ flow.source ^ flow.destination);
  const seed = flow.hasIcmpId ? flow.icmp : flow.ports;
  return fold(seed ^ flow.source ^ flow.destination) >>> 1;
}

/** The same of a bare IP packet: for lowers without a link header. */
export function xmitHashIp(view: DataView, start: number, end: number): number {
  const type = end > start && view.getUint8(start) >> 4 === 6 ? EtherType.IPV6 : EtherType.IPV4;
  if (!dissect(view, start, end, type, true)) return 0;
  return fold((flow.hasIcmpId ? flow.icmp : flow.ports) ^ flow.source ^ flow.destination) >>> 1;
}

function ethernetHash(view: DataView, start: number, end: number): number {
  if (end - start < ETHERNET) return 0;
  return view.getUint8(start + 5) ^ view.getUint8(start + 11) ^ view.getUint16(start + 12);
}

function vlanSrcmac(view: DataView, start: number, end: number, tci: number): number {
  if (end - start < ETHERNET) return 0;
  const vendor = (view.getUint8(start + 6) << 16) | view.getUint16(start + 7);
  const device = (view.getUint8(start + 9) << 16) | view.getUint16(start + 10);
  return ((tci & 0xffff) ^ vendor ^ device) >>> 0;
}

function fold(hash: number): number {
  hash ^= hash >>> 16;
  return (hash ^ (hash >>> 8)) >>> 0;
}

/** Fills `flow`; false where the kernel would fall back to the Ethernet hash. Addresses are read little-endian, as x86 loads them. */
function dissect(view: DataView, at: number, end: number, type: number, outermost: boolean): boolean {
  let protocol: number;
  let l4: number;
  if (type === EtherType.IPV4) {
    if (end - at < 20) return false;
    flow.source = view.getInt32(at + 12, true);
    flow.destination = view.getInt32(at + 16, true);
    l4 = at + (view.getUint8(at) & 15) * 4;
    // Any fragment, the first included, has neither ports nor ICMP.
    protocol = (view.getUint16(at + 6) & 0x3fff) !== 0 ? -1 : view.getUint8(at + 9);
  } else if (type === EtherType.IPV6) {
    if (end - at < 40) return false;
    flow.source = xor128(view, at + 8);
    flow.destination = xor128(view, at + 24);
    l4 = at + 40;
    // Extension headers are not walked: whatever comes first is the protocol.
    protocol = view.getUint8(at + 6);
  } else return false;

  flow.ports = 0;
  flow.icmp = 0;
  flow.hasIcmpId = false;
  if (protocol === IpProtocol.ICMP || protocol === IpProtocol.ICMPV6)
    return outermost ? icmp(view, l4, end, type, protocol) : true;
  if (protocol === IpProtocol.AH) {
    if (l4 + 8 <= end) flow.ports = view.getInt32(l4 + 4, true);
  } else if (hasPorts(protocol) && l4 + 4 <= end) flow.ports = view.getInt32(l4, true);
  return true;
}

function hasPorts(protocol: number): boolean {
  return (
    protocol === IpProtocol.TCP ||
    protocol === IpProtocol.UDP ||
    protocol === IpProtocol.ESP ||
    protocol === DCCP ||
    protocol === SCTP ||
    protocol === UDPLITE
  );
}

function icmp(view: DataView, l4: number, end: number, type: number, protocol: number): boolean {
  if (l4 + 8 > end) return true;
  const kind = view.getUint8(l4);
  const error =
    protocol === IpProtocol.ICMP
      ? kind === 3 || kind === 4 || kind === 5 || kind === 11 || kind === 12
      : kind >= 1 && kind <= 4;
  // An error is hashed as the packet it quotes; ICMP inside a quote counts as a protocol without ports.
  if (error) return dissect(view, l4 + 8, end, type, false);
  const hasId = kind === 0 || kind === 8 || kind === 13 || kind === 14 || kind === 128 || kind === 129;
  if (!hasId) return true;
  const id = view.getUint16(l4 + 4) || 1;
  flow.icmp = kind | (view.getUint8(l4 + 1) << 8) | (id << 16);
  flow.hasIcmpId = true;
  return true;
}

function xor128(view: DataView, at: number): number {
  return (
    view.getInt32(at, true) ^ view.getInt32(at + 4, true) ^ view.getInt32(at + 8, true) ^ view.getInt32(at + 12, true)
  );
}
