import { checksum } from '@espalier/wire';
import { addressBytes } from './esp-gateway.ts';
import type { Planned, Side } from './esp-plan.ts';

/** A UDP packet between the inner addresses of a combination, without a UDP checksum over IPv4. */
export function udpPacket(p: Planned, from: Side, to: Side, payload: Buffer): Uint8Array {
  const v4 = p.innerFamily === 4;
  const headerLength = v4 ? 20 : 40;
  const packet = Buffer.alloc(headerLength + 8 + payload.length);
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  packet.set(addressBytes(p.inner[from]), v4 ? 12 : 8);
  packet.set(addressBytes(p.inner[to]), v4 ? 16 : 24);
  if (v4) {
    packet.writeUInt16BE(0x4500, 0);
    packet.writeUInt16BE(packet.length, 2);
    packet.writeUInt16BE(0x4011, 8);
    view.setUint16(10, checksum(view, 0, 20));
  } else {
    packet.writeUInt16BE(0x6000, 0);
    packet.writeUInt16BE(8 + payload.length, 4);
    packet.writeUInt16BE(0x1140, 6);
  }
  packet.writeUInt16BE(50_001, headerLength);
  packet.writeUInt16BE(50_002, headerLength + 2);
  packet.writeUInt16BE(8 + payload.length, headerLength + 4);
  packet.set(payload, headerLength + 8);
  return packet;
}
