import { readFileSync } from 'node:fs';

const raw = (name: string): Buffer => readFileSync(new URL(`vectors/${name}`, import.meta.url));

export function readVectors<T>(name: string): T {
  return JSON.parse(raw(name).toString('utf8')) as T;
}

/** Frames of a classic pcap file of either byte order. */
export function readPcap(name: string): Uint8Array[] {
  const file = raw(name);
  const little = file.readUInt32LE(0) === 0xa1b2c3d4;
  const word = (at: number): number => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  const frames: Uint8Array[] = [];
  for (let at = 24; at + 16 <= file.length; ) {
    const length = word(at + 8);
    frames.push(Uint8Array.from(file.subarray(at + 16, at + 16 + length)));
    at += 16 + length;
  }
  return frames;
}

/** Frames of a snoop file (RFC 1761). */
export function readSnoop(name: string): Uint8Array[] {
  const file = raw(name);
  const frames: Uint8Array[] = [];
  for (let at = 16; at + 24 <= file.length; at += file.readUInt32BE(at + 8))
    frames.push(Uint8Array.from(file.subarray(at + 24, at + 24 + file.readUInt32BE(at + 4))));
  return frames;
}

/** The ESP packet of an Ethernet frame, raw or in UDP 4500, and where its inner bytes sit; null for anything else. */
export function espOf(frame: Uint8Array): Uint8Array | null {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const type = view.getUint16(12);
  let at = 14;
  let protocol: number;
  let end: number;
  if (type === 0x0800) {
    protocol = frame[at + 9]!;
    end = at + view.getUint16(at + 2);
    at += (frame[at]! & 15) * 4;
  } else if (type === 0x86dd) {
    protocol = frame[at + 6]!;
    end = at + 40 + view.getUint16(at + 4);
    at += 40;
  } else return null;
  if (protocol === 17 && view.getUint16(at + 2) === 4500 && view.getUint32(at + 8) !== 0) {
    protocol = 50;
    at += 8;
  }
  return protocol === 50 ? frame.slice(at, end) : null;
}
