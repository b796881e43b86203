/** Ethernet II and 802.1Q. Offsets are from the first byte of the frame; numbers are big-endian on the wire. */

/** Destination, source and EtherType, in bytes. */
export const ETHERNET_HEADER_LENGTH = 14;
/** One 802.1Q tag, in bytes. */
export const VLAN_TAG_LENGTH = 4;

const SOURCE = 6;
const TYPE = 12;

export const EtherType = {
  IPV4: 0x0800,
  ARP: 0x0806,
  VLAN: 0x8100,
  IPV6: 0x86dd,
  LACP: 0x8809,
  QINQ: 0x88a8,
} as const;

/** EtherType, or the tag protocol of an in-band VLAN tag. */
export function readEtherType(view: DataView, at: number): number {
  return view.getUint16(at + TYPE);
}

export function writeEtherType(view: DataView, at: number, type: number): void {
  view.setUint16(at + TYPE, type);
}

/** Writes the 14 bytes; the addresses have 6 each. */
export function writeEthernet(
  bytes: Uint8Array,
  at: number,
  destination: Uint8Array,
  source: Uint8Array,
  type: number,
): void {
  bytes.set(destination, at);
  bytes.set(source, at + SOURCE);
  bytes[at + TYPE] = type >>> 8;
  bytes[at + TYPE + 1] = type & 0xff;
}
