/** What a transmit hash is made of, and the readers that both dissectors share. Bytes are read as a little-endian kernel loads them. */
import { IpProtocol } from '@espalier/wire';

const DCCP = 33;
const SCTP = 132;
const UDPLITE = 136;

/** Words of a dissected frame. */
export interface FlowWords {
  /** Source and destination address: IPv4 as it is, IPv6 folded by XOR; 0 where there is none. */
  source: number;
  destination: number;
  /** Both ports, or an SPI. */
  ports: number;
  /** type | code << 8 | id << 16; for `hasIcmpId` only. */
  icmp: number;
  hasIcmpId: boolean;
}

export function readIpv4Addresses(flow: FlowWords, view: DataView, at: number): void {
  flow.source = view.getInt32(at + 12, true);
  flow.destination = view.getInt32(at + 16, true);
}

export function readIpv6Addresses(flow: FlowWords, view: DataView, at: number): void {
  flow.source = xor128(view, at + 8);
  flow.destination = xor128(view, at + 24);
}

function xor128(view: DataView, at: number): number {
  return (
    view.getInt32(at, true) ^ view.getInt32(at + 4, true) ^ view.getInt32(at + 8, true) ^ view.getInt32(at + 12, true)
  );
}

/** Four bytes at `l4`, for AH (its SPI) at `l4 + 4`; 0 for other protocols and where they are cut off. Kernel: proto_ports_offset. */
export function readPorts(view: DataView, l4: number, end: number, protocol: number): number {
  switch (protocol) {
    case IpProtocol.TCP:
    case IpProtocol.UDP:
    case IpProtocol.ESP:
    case DCCP:
    case SCTP:
    case UDPLITE:
      return l4 + 4 <= end ? view.getInt32(l4, true) : 0;
    case IpProtocol.AH:
      return l4 + 8 <= end ? view.getInt32(l4 + 4, true) : 0;
    default:
      return 0;
  }
}

/** Type, code and identifier of the ICMP header at `l4`; a zero identifier counts as 1. Kernel: skb_flow_get_icmp_tci. */
export function readIcmp(flow: FlowWords, view: DataView, l4: number, end: number): void {
  if (l4 + 8 > end) return;
  const type = view.getUint8(l4);
  flow.hasIcmpId = type === 0 || type === 8 || type === 13 || type === 14 || type === 128 || type === 129;
  flow.icmp = flow.hasIcmpId ? type | (view.getUint8(l4 + 1) << 8) | ((view.getUint16(l4 + 4) || 1) << 16) : 0;
}
