/** UDP header (RFC 768) and the demultiplexing of UDP-encapsulated ESP (RFC 3948). */

export const UDP_HEADER_LENGTH = 8;
/** Port of UDP-encapsulated ESP and IKE. */
export const ESP_UDP_PORT = 4500;

export const Udp = { SOURCE_PORT: 0, DESTINATION_PORT: 2, LENGTH: 4, CHECKSUM: 6 } as const;

/** What a datagram on port 4500 carries. */
export const UdpClass = {
  ESP: 0,
  /** Four zero bytes first: for the IKE daemon (RFC 3948 2.2). */
  IKE: 1,
  /** One byte 0xff (RFC 3948 2.3). */
  KEEPALIVE: 2,
  /** Shorter than an SPI and a number, or the length field disagrees. */
  TRUNCATED: 3,
} as const;
export type UdpClass = (typeof UdpClass)[keyof typeof UdpClass];

/** Classifies the payload `[start, end)` of a datagram on port 4500. */
export function classifyUdpPayload(view: DataView, start: number, end: number): UdpClass {
  const length = end - start;
  if (length === 1 && view.getUint8(start) === 0xff) return UdpClass.KEEPALIVE;
  if (length < 4) return UdpClass.TRUNCATED;
  if (view.getUint32(start) === 0) return UdpClass.IKE;
  return length < 8 ? UdpClass.TRUNCATED : UdpClass.ESP;
}

/** Classifies the datagram whose UDP header is at `at`, `end` being the end of the IP packet. */
export function classifyUdp(view: DataView, at: number, end: number): UdpClass {
  if (end - at < UDP_HEADER_LENGTH) return UdpClass.TRUNCATED;
  const length = view.getUint16(at + Udp.LENGTH);
  if (length < UDP_HEADER_LENGTH || at + length > end) return UdpClass.TRUNCATED;
  return classifyUdpPayload(view, at + UDP_HEADER_LENGTH, at + length);
}

/** Writes 8 bytes; checksum 0 as RFC 3948 2.1 asks of IPv4. `length` covers header and payload. */
export function writeUdp(view: DataView, at: number, sport: number, dport: number, length: number): void {
  view.setUint16(at + Udp.SOURCE_PORT, sport);
  view.setUint16(at + Udp.DESTINATION_PORT, dport);
  view.setUint16(at + Udp.LENGTH, length);
  view.setUint16(at + Udp.CHECKSUM, 0);
}
