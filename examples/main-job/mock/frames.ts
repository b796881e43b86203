/** The host's own packets: IPv4 with UDP or ICMP, as a kernel would put them into a TUN. */
import { internetChecksum } from './checksum.ts';

export const IPV4 = 20;
/** IPv4, UDP, then kind (1), nothing (3), sequence number (4), cumulative acknowledgement (4). */
export const HEADER = IPV4 + 8 + 12;
export const Kind = { DATA: 1, END: 2, ACK: 3 } as const;
const PORT = 5001;
const UDP = 17;
const ICMP = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const ECHO_ID = 0x6573;

/** A packet of `length` bytes between two addresses, its IPv4 header filled in. */
function ip(from: Uint8Array, to: Uint8Array, protocol: number, length: number): Uint8Array {
  const packet = new Uint8Array(length);
  packet[0] = 0x45;
  packet[2] = length >> 8;
  packet[3] = length & 0xff;
  packet[8] = 64;
  packet[9] = protocol;
  packet.set(from, 12);
  packet.set(to, 16);
  const sum = internetChecksum(packet, 0, IPV4);
  packet[10] = sum >> 8;
  packet[11] = sum & 0xff;
  return packet;
}

export function datagram(
  from: Uint8Array,
  to: Uint8Array,
  kind: number,
  seq: number,
  ack: number,
  payload: Uint8Array | null,
): Uint8Array {
  const packet = ip(from, to, UDP, HEADER + (payload?.length ?? 0));
  const view = new DataView(packet.buffer);
  view.setUint16(IPV4, PORT);
  view.setUint16(IPV4 + 2, PORT);
  view.setUint16(IPV4 + 4, packet.length - IPV4);
  packet[IPV4 + 8] = kind;
  view.setUint32(IPV4 + 12, seq);
  view.setUint32(IPV4 + 16, ack);
  if (payload !== null) packet.set(payload, HEADER);
  return packet;
}

export function echo(from: Uint8Array, to: Uint8Array, reply: boolean, seq: number): Uint8Array {
  const packet = ip(from, to, ICMP, IPV4 + 64);
  const view = new DataView(packet.buffer);
  packet[IPV4] = reply ? ECHO_REPLY : ECHO_REQUEST;
  view.setUint16(IPV4 + 4, ECHO_ID);
  view.setUint16(IPV4 + 6, seq);
  view.setUint16(IPV4 + 2, internetChecksum(packet, IPV4, packet.length));
  return packet;
}

export interface Arrived {
  readonly kind: number;
  /** Last bytes of the addresses less one: which pair. */
  readonly pair: number;
  readonly seq: number;
  readonly ack: number;
}

/** What came out of the tunnel, or null when it is neither ours nor whole. */
export function readDatagram(packet: Uint8Array, length: number): Arrived | null {
  if (length < HEADER || packet[0] !== 0x45 || packet[9] !== UDP || internetChecksum(packet, 0, IPV4) !== 0)
    return null;
  const view = new DataView(packet.buffer, packet.byteOffset);
  return {
    kind: packet[IPV4 + 8]!,
    pair: packet[19]! - 1,
    seq: view.getUint32(IPV4 + 12),
    ack: view.getUint32(IPV4 + 16),
  };
}

/** Sequence number of an echo request or reply, or -1. */
export function readEcho(packet: Uint8Array, length: number, reply: boolean): number {
  if (length !== IPV4 + 64 || packet[9] !== ICMP || packet[IPV4] !== (reply ? ECHO_REPLY : ECHO_REQUEST)) return -1;
  if (internetChecksum(packet, IPV4, length) !== 0) return -1;
  return (packet[IPV4 + 6]! << 8) | packet[IPV4 + 7]!;
}
