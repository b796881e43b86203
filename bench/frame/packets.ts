import { IpProtocol, writeIpv4, writeIpv4Checksum, writeIpv6, writeUdp } from '@espalier/wire';

export const V4 = { source: Uint8Array.of(192, 0, 2, 1), destination: Uint8Array.of(192, 0, 2, 2) } as const;
export const V6 = {
  source: Uint8Array.of(0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
  destination: Uint8Array.of(0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2),
} as const;

/** An IPv4/UDP packet of `length` bytes; `flow` picks addresses and ports. */
export function ipv4(length: number, flow = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  writeIpv4(view, 0, {
    tos: 0,
    totalLength: length,
    id: 0,
    fragment: 0x4000,
    ttl: 64,
    protocol: IpProtocol.UDP,
    source: Uint8Array.of(10, 1, flow >> 8, flow),
    destination: Uint8Array.of(10, 2, flow >> 8, flow),
  });
  writeIpv4Checksum(view, 0);
  writeUdp(view, 20, 1024 + flow, 2048 + flow, length - 20);
  for (let i = 28; i < length; i++) bytes[i] = i * 7 + flow;
  return bytes;
}

/** An IPv6/UDP packet of `length` bytes. */
export function ipv6(length: number, flow = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const address = (house: number): Uint8Array =>
    Uint8Array.of(0xfd, house, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, flow >> 8, flow);
  writeIpv6(view, 0, {
    trafficClass: 0,
    flowLabel: flow,
    payloadLength: length - 40,
    nextHeader: IpProtocol.UDP,
    hopLimit: 64,
    source: address(1),
    destination: address(2),
  });
  writeUdp(view, 40, 1024 + flow, 2048 + flow, length - 40);
  for (let i = 48; i < length; i++) bytes[i] = i * 5 + flow;
  return bytes;
}
