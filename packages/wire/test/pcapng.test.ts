import {
  type CapturedPacket,
  CaptureLink,
  pcapngHeader,
  pcapngPacket,
  pcapngPacketBytes,
  readPcapng,
} from '@espalier/wire';
import { describe, expect, it } from 'vitest';

const interfaces = [
  { name: 'a0 at A', link: CaptureLink.ETHERNET },
  { name: 'ü', link: CaptureLink.RAW_IP },
];
const packets: CapturedPacket[] = Array.from({ length: 40 }, (_, i) => ({
  interface: i % 2,
  seconds: 1_700_000_000 + i,
  nanoseconds: (i * 123_456_789) % 1_000_000_000,
  bytes: Uint8Array.from({ length: i * 7 }, (_, k) => (i * 31 + k) & 0xff),
}));
const file = Buffer.concat([pcapngHeader(interfaces), ...packets.map(pcapngPacket)]);

describe('a pcapng file', () => {
  it('reads as what was written', () => {
    expect(readPcapng(file)).toEqual({ interfaces, packets, whole: true });
  });

  it('begins as the format says, byte for byte', () => {
    const head = pcapngHeader([{ name: 'a', link: CaptureLink.ETHERNET }]);
    const hex = Buffer.from(head).toString('hex');
    // Section header block, then an interface description with if_name "a" and if_tsresol 9.
    expect(hex).toBe(
      '0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000' +
        '01000000280000000100000000000000' +
        '0200010061000000' +
        '0900010009000000' +
        '00000000' +
        '28000000',
    );
  });

  it('takes as many bytes per packet as it says', () => {
    for (const packet of packets) expect(pcapngPacket(packet)).toHaveLength(pcapngPacketBytes(packet.bytes.length));
  });

  it('ends where it is cut off, with the packets before that', () => {
    for (let length = 0; length < file.length; length += 89) {
      const read = readPcapng(file.subarray(0, length));
      expect(read.packets).toEqual(packets.slice(0, read.packets.length));
      if (!read.whole) expect(read.packets.length).toBeLessThan(packets.length);
    }
    expect(readPcapng(new Uint8Array())).toEqual({ interfaces: [], packets: [], whole: false });
  });

  it('never throws, whichever bit of it is flipped', () => {
    const short = Buffer.concat([pcapngHeader(interfaces), pcapngPacket(packets[3]!), pcapngPacket(packets[4]!)]);
    let broken = 0;
    for (let bit = 0; bit < short.length * 8; bit++) {
      short[bit >> 3]! ^= 1 << (bit & 7);
      if (!readPcapng(short).whole) broken++;
      short[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(broken).toBeGreaterThan(300);
  });
});
