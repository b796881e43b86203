/**
 * Captures as Wireshark reads them: pcapng, one section, little-endian, nanoseconds
 * (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html). The key lines beside it are esp's `wiresharkEspSa`.
 */

/** Link types of the capture (https://www.tcpdump.org/linktypes.html). */
export const CaptureLink = { ETHERNET: 1, RAW_IP: 101 } as const;

const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const OPTION_END = 0;
const OPTION_IF_NAME = 2;
const OPTION_TSRESOL = 9;
/** Fields of an Enhanced Packet Block around its packet, bytes. */
const PACKET_OVERHEAD = 32;

export interface CaptureInterface {
  readonly name: string;
  /** Of CaptureLink. */
  readonly link: number;
}

export interface CapturedPacket {
  /** Index into the interfaces. */
  readonly interface: number;
  /** Since 1970, whole seconds and the rest in nanoseconds. */
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly bytes: Uint8Array;
}

/** What a file holds; `whole` is false where it ends inside a block or is no pcapng of the kind written here. */
export interface Capture {
  readonly interfaces: readonly CaptureInterface[];
  readonly packets: readonly CapturedPacket[];
  readonly whole: boolean;
}

function block(type: number, body: readonly Uint8Array[]): Uint8Array {
  const length = 12 + body.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  let at = 8;
  for (const part of body) {
    bytes.set(part, at);
    at += part.length;
  }
  view.setUint32(at, length, true);
  return bytes;
}

function padded(bytes: Uint8Array): Uint8Array {
  if ((bytes.length & 3) === 0) return bytes;
  const whole = new Uint8Array((bytes.length + 3) & ~3);
  whole.set(bytes);
  return whole;
}

function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setUint32(i * 4, value, true);
  });
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array[] {
  return [words(code | (value.length << 16)), padded(value)];
}

/** The head of a file: the section and its interfaces. Packets follow, each from `pcapngPacket`. */
export function pcapngHeader(interfaces: readonly CaptureInterface[]): Uint8Array {
  const parts = [
    // Version 1.0, length of the section unknown.
    block(BLOCK_SECTION, [words(BYTE_ORDER, 1, 0xffffffff, 0xffffffff)]),
    ...interfaces.map(({ name, link }) =>
      block(BLOCK_INTERFACE, [
        words(link, 0),
        ...option(OPTION_IF_NAME, new TextEncoder().encode(name)),
        ...option(OPTION_TSRESOL, Uint8Array.of(9)),
        words(OPTION_END),
      ]),
    ),
  ];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Bytes that a packet of `length` bytes takes in a file. */
export function pcapngPacketBytes(length: number): number {
  return PACKET_OVERHEAD + ((length + 3) & ~3);
}

/** One packet as it stands in a file. */
export function pcapngPacket(packet: CapturedPacket): Uint8Array {
  const { seconds, nanoseconds, bytes } = packet;
  const stamp = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  const head = words(packet.interface, Number(stamp >> 32n), Number(stamp & 0xffffffffn), bytes.length, bytes.length);
  return block(BLOCK_PACKET, [head, padded(bytes)]);
}

/** Reads a file of one little-endian section with nanoseconds, as written here; never throws on content. */
export function readPcapng(file: Uint8Array): Capture {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const interfaces: CaptureInterface[] = [];
  const packets: CapturedPacket[] = [];
  let at = 0;
  while (at < file.length) {
    const length = at + 12 <= file.length ? view.getUint32(at + 4, true) : 0;
    const end = at + length;
    if (length < 12 || length % 4 !== 0 || end > file.length || view.getUint32(end - 4, true) !== length) break;
    const type = view.getUint32(at, true);
    if (at === 0 && (type !== BLOCK_SECTION || length < 28 || view.getUint32(8, true) !== BYTE_ORDER)) break;
    if (type === BLOCK_INTERFACE) {
      if (length < 20) break;
      interfaces.push({ name: nameOf(file, view, at + 16, end - 4), link: view.getUint16(at + 8, true) });
    } else if (type === BLOCK_PACKET) {
      const size = length < PACKET_OVERHEAD ? -1 : view.getUint32(at + 20, true);
      const index = length < PACKET_OVERHEAD ? -1 : view.getUint32(at + 8, true);
      if (size < 0 || size > length - PACKET_OVERHEAD || index >= interfaces.length) break;
      const stamp = (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true));
      packets.push({
        interface: index,
        seconds: Number(stamp / 1_000_000_000n),
        nanoseconds: Number(stamp % 1_000_000_000n),
        // A copy also where the file is a Buffer, whose slice is none.
        bytes: new Uint8Array(file.subarray(at + 28, at + 28 + size)),
      });
    }
    at = end;
  }
  return { interfaces, packets, whole: at === file.length && at > 0 };
}

function nameOf(file: Uint8Array, view: DataView, from: number, end: number): string {
  for (let at = from; at + 4 <= end; ) {
    const code = view.getUint16(at, true);
    const length = view.getUint16(at + 2, true);
    if (code === OPTION_END || at + 4 + length > end) break;
    if (code === OPTION_IF_NAME) return new TextDecoder().decode(file.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
  return '';
}
