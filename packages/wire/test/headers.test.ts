// Headers against plain twins, and whatever comes never read beyond its end. Budget: 2 s; ESPALIER_LONG=1 takes ten times as many.
import { describe, expect, it } from 'vitest';
import { random } from '../../../scripts/random.ts';
import {
  checkIpv4,
  checkIpv6,
  checksum,
  checkTrailer,
  classifyUdp,
  classifyUdpPayload,
  ESP_TRAILER_LENGTH,
  flowHash,
  IPV6_MAX_EXTENSIONS,
  IpCheck,
  Ipv6Walk,
  isIpv4Fragment,
  mayAnswer,
  padLength,
  pseudoHeaderIpv4,
  pseudoHeaderIpv6,
  readIhl,
  readSeqLo,
  readSpi,
  readTooBig,
  readTotalLength,
  readTrafficClass,
  UdpClass,
  updateChecksum,
  updateChecksum32,
  walkIpv6,
  writeEsp,
  writeIpv4,
  writeIpv6,
  writeTooBig,
  writeTrafficClass,
  writeTrailer,
  writeUdp,
} from '../src/index.ts';

const MANY = process.env.ESPALIER_LONG === '1' ? 2_000_000 : 200_000;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** One's complement sum, word by word, the carry taken round at once (RFC 1071 1). */
function plainSum(bytes: Uint8Array, sum = 0): number {
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

const V4 = { tos: 0, totalLength: 60, id: 7, fragment: 0x4000, ttl: 64, protocol: 17 } as const;
const ENDS4 = { source: Uint8Array.of(192, 0, 2, 1), destination: Uint8Array.of(192, 0, 2, 2) };
const ENDS6 = {
  source: Uint8Array.from({ length: 16 }, (_, i) => 0x20 + i),
  destination: Uint8Array.from({ length: 16 }, (_, i) => 0x30 + i),
};
const V6 = { trafficClass: 0xb9, flowLabel: 0xabcde, payloadLength: 24, nextHeader: 17, hopLimit: 9 } as const;

describe('a checksum', () => {
  it('is the plain one’s complement sum, at every length, and stays right when a word under it changes', () => {
    const next = random(0xc5);
    for (let length = 0; length <= 300; length++) {
      const bytes = Uint8Array.from({ length }, () => (next(3) === 0 ? 0xff : next(256)));
      const view = viewOf(bytes);
      expect(checksum(view, 0, length) % 0xffff).toBe((~plainSum(bytes) & 0xffff) % 0xffff);
      if (length < 8) continue;
      const at = 4 + 4 * next((length - 4) >> 2);
      view.setUint16(0, 0);
      view.setUint16(0, checksum(view, 0, length));
      const before = view.getUint32(at);
      const after = [0, 0xffff_ffff, 0xffff_0000, next(2 ** 32)][next(4)]!;
      view.setUint32(at, after);
      view.setUint16(0, updateChecksum32(view.getUint16(0), before, after));
      expect(plainSum(bytes), `${length} bytes`).toBe(0xffff);
      const word = view.getUint16(at);
      view.setUint16(at, word ^ 0x5a5a);
      view.setUint16(0, updateChecksum(view.getUint16(0), word, word ^ 0x5a5a));
      expect(plainSum(bytes), `${length} bytes`).toBe(0xffff);
    }
  });

  it('has the pseudo headers of RFC 768 and RFC 8200', () => {
    const packet = new Uint8Array(60);
    writeIpv4(viewOf(packet), 0, { ...V4, ...ENDS4 });
    const four = Uint8Array.from([...ENDS4.source, ...ENDS4.destination, 0, 17, 0, 40]);
    expect(pseudoHeaderIpv4(viewOf(packet), 0, 17, 40) % 0xffff).toBe(plainSum(four) % 0xffff);
    writeIpv6(viewOf(packet), 0, { ...V6, ...ENDS6 });
    const six = Uint8Array.from([...ENDS6.source, ...ENDS6.destination, 0, 1, 0x11, 0x22, 0, 0, 0, 17]);
    expect(pseudoHeaderIpv6(viewOf(packet), 0, 17, 0x11122) % 0xffff).toBe(plainSum(six) % 0xffff);
  });
});

describe('a header', () => {
  it('reads back as it was written', () => {
    const bytes = new Uint8Array(64);
    const view = viewOf(bytes);
    writeIpv4(view, 3, { ...V4, ...ENDS4 });
    expect([checkIpv4(view, 3, 63), readIhl(view, 3), readTotalLength(view, 3), isIpv4Fragment(view, 3)]).toEqual([
      IpCheck.OK,
      20,
      60,
      false,
    ]);
    expect(plainSum(bytes.subarray(3, 23))).toBe(0xffff);
    for (const fragment of [0x2000, 0x2001, 1, 0x1fff]) {
      writeIpv4(view, 3, { ...V4, ...ENDS4, fragment });
      expect(isIpv4Fragment(view, 3)).toBe(true);
    }
    writeIpv6(view, 0, { ...V6, ...ENDS6 });
    expect([checkIpv6(view, 0, 64), readTrafficClass(view, 0), view.getUint32(0) & 0xf_ffff]).toEqual([
      0, 0xb9, 0xabcde,
    ]);
    writeTrafficClass(view, 0, 0x47);
    expect([readTrafficClass(view, 0), view.getUint32(0)]).toEqual([0x47, 0x647a_bcde]);
    expect(walkIpv6(view, 0, 64)).toBe(40 * 256 + 17);
    writeUdp(view, 40, 4500, 4501, 24);
    writeEsp(view, 48, 0xdead_beef, 0xffff_fff0);
    expect(classifyUdp(view, 40, 64)).toBe(UdpClass.ESP);
    expect([readSpi(view, 48), readSeqLo(view, 48)]).toEqual([0xdead_beef, 0xffff_fff0]);
  });

  it('of ESP’s padding fills the block, is the least that does, and is found again or refused', () => {
    for (const block of [4, 8, 16])
      for (let length = 0; length < 300; length++) {
        const pad = padLength(length, block);
        expect((length + pad + ESP_TRAILER_LENGTH) % block).toBe(0);
        expect(pad).toBeLessThan(block);
        const bytes = new Uint8Array(length + pad + 2);
        expect(writeTrailer(bytes, length, pad, 41)).toBe(bytes.length);
        expect(checkTrailer(bytes, 0, bytes.length)).toBe(length);
        expect(bytes[bytes.length - 1]).toBe(41);
        if (pad === 0) continue;
        bytes[length + (length % pad)]! ^= 0x80;
        expect(checkTrailer(bytes, 0, bytes.length)).toBe(-1);
      }
    // Longer than what is there, by one.
    expect(checkTrailer(Uint8Array.of(9, 1, 2, 3, 4), 1, 5)).toBe(-1);
    expect(checkTrailer(Uint8Array.of(0), 0, 1)).toBe(-1);
  });
});

/** What a header check says, written from RFC 791 3.1. */
function plainCheck4(p: Uint8Array): number {
  if (p.length < 20) return IpCheck.TRUNCATED;
  const header = (p[0]! & 15) * 4;
  if (p[0]! >> 4 !== 4 || header < 20 || header > p.length) return IpCheck.BAD;
  const total = (p[2]! << 8) | p[3]!;
  if (total < header) return IpCheck.BAD;
  if (total > p.length) return IpCheck.TRUNCATED;
  return plainSum(p.subarray(0, header)) === 0xffff ? IpCheck.OK : IpCheck.BAD;
}

/** The walk over extension headers, written from RFC 8200 4. */
function plainWalk(p: Uint8Array): number {
  let next = p[6]!;
  let at = 40;
  for (let headers = 0; ; headers++) {
    if (headers > IPV6_MAX_EXTENSIONS) return Ipv6Walk.TOO_LONG;
    if (next === 44) return Ipv6Walk.FRAGMENT;
    if (![0, 43, 60].includes(next)) return at * 256 + next;
    const rest = p.subarray(at);
    if (rest.length < 8 || rest.length < 8 * (rest[1]! + 1)) return Ipv6Walk.TRUNCATED;
    next = rest[0]!;
    at += 8 * (rest[1]! + 1);
  }
}

describe('whatever comes', () => {
  // Each packet ends where its memory ends: a read beyond it would throw.
  it('is judged as the plain twins judge it, and nothing behind its end is read', () => {
    const next = random(0x3e4d);
    const kinds = new Map<string, number>();
    const meet = (kind: string): void => void kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    for (let n = 0; n < MANY; n++) {
      const six = next(2) === 0;
      const whole = new Uint8Array(60 + next(60));
      const view = viewOf(whole);
      if (six) {
        writeIpv6(view, 0, {
          ...V6,
          ...ENDS6,
          payloadLength: whole.length - 40,
          nextHeader: [0, 43, 60, 44, 17, 58, 6][next(7)]!,
        });
        for (let at = 40; at + 8 <= whole.length; at += 8)
          whole.set([[0, 43, 60, 17, 58][next(5)]!, next(8) === 0 ? next(4) : 0], at);
      } else {
        const header = next(4) === 0 ? 20 + 4 * next(11) : 20;
        writeIpv4(view, 0, {
          ...V4,
          ...ENDS4,
          totalLength: whole.length,
          protocol: [17, 6, 1, 50][next(4)]!,
          fragment: next(8) === 0 ? next(65_536) : 0x4000,
        });
        whole[0] = 0x40 | (header / 4);
        whole.fill(next(256), 20, header);
        view.setUint16(10, 0);
        view.setUint16(10, checksum(view, 0, Math.min(header, whole.length)));
      }
      for (let k = next(4); k > 2; k--) whole[next(Math.min(whole.length, 48))] = next(256);
      const p = next(3) === 0 ? whole.slice(0, next(whole.length + 1)) : whole.slice();
      const v = viewOf(p);
      const got4 = checkIpv4(v, 0, p.length);
      if (got4 !== plainCheck4(p)) throw new Error(`IPv4 ${Buffer.from(p).toString('hex')}: ${got4}`);
      const got6 = checkIpv6(v, 0, p.length);
      if (got4 === IpCheck.OK) {
        meet('IPv4');
        flowHash(v, 0, p.length);
        mayAnswer(v, 0, p.length);
        const l4 = readIhl(v, 0);
        readTooBig(v, 0, l4, p.length, false);
        classifyUdp(v, l4, p.length);
      } else if (got6 === IpCheck.OK) {
        meet('IPv6');
        const end = 40 + v.getUint16(4);
        const walk = walkIpv6(v, 0, end);
        if (walk !== plainWalk(p.subarray(0, end))) throw new Error(`IPv6 ${Buffer.from(p).toString('hex')}: ${walk}`);
        meet(walk < 0 ? `walk ${walk}` : 'walk');
        flowHash(v, 0, end);
        mayAnswer(v, 0, end);
        if (walk >= 0) {
          readTooBig(v, 0, Math.floor(walk / 256), end, true);
          classifyUdp(v, Math.floor(walk / 256), end);
        }
      } else meet('neither');
      classifyUdpPayload(v, 0, p.length);
      checkTrailer(p, 0, p.length);
    }
    // All of it has been met.
    for (const kind of ['IPv4', 'IPv6', 'neither', 'walk', 'walk -1', 'walk -2'])
      expect(kinds.get(kind), kind).toBeGreaterThan(100);
  });
});

describe('an error about a packet that is too big', () => {
  it('says its MTU to whoever reads it, has a right checksum, quotes what fits, and goes to the sender', () => {
    for (const six of [false, true])
      for (const length of [60, 500, 600, 1300, 1500]) {
        const bytes = new Uint8Array(4096);
        const view = viewOf(bytes);
        if (six) writeIpv6(view, 2048, { ...V6, ...ENDS6, payloadLength: length - 40 });
        else writeIpv4(view, 2048, { ...V4, ...ENDS4, totalLength: length });
        const from = six ? ENDS6.destination : ENDS4.destination;
        const end = writeTooBig(bytes, view, 0, 2048, 2048 + length, 1400, from);
        const header = six ? 40 : 20;
        expect((six ? checkIpv6 : checkIpv4)(view, 0, end)).toBe(IpCheck.OK);
        expect(end).toBe(Math.min(header + 8 + length, six ? 1280 : 576));
        expect(readTooBig(view, 0, header, end, six)).toBe(1400);
        const to = six ? bytes.subarray(24, 40) : bytes.subarray(16, 20);
        expect([...to]).toEqual([...(six ? ENDS6.source : ENDS4.source)]);
        expect([...bytes.subarray(header + 8, end)]).toEqual([...bytes.subarray(2048, 2048 + end - header - 8)]);
        // Errors about errors are not to be.
        expect(mayAnswer(view, 0, end)).toBe(false);
        bytes[end - 1]! ^= 1;
        expect(readTooBig(view, 0, header, end, six)).toBe(0);
      }
  });

  it('is for one sender of one packet: not for later fragments, groups, nobody or this host', () => {
    const packet = (over: object): boolean => {
      const bytes = new Uint8Array(60);
      writeIpv4(viewOf(bytes), 0, { ...V4, ...ENDS4, ...over });
      return mayAnswer(viewOf(bytes), 0, 60);
    };
    expect([{}, { fragment: 0x2000 }].map(packet)).toEqual([true, true]);
    for (const over of [
      { fragment: 1 },
      { source: Uint8Array.of(0, 0, 0, 0) },
      { source: Uint8Array.of(127, 0, 0, 1) },
      { source: Uint8Array.of(224, 0, 0, 1) },
      { source: Uint8Array.of(255, 255, 255, 255) },
      { destination: Uint8Array.of(239, 1, 2, 3) },
    ])
      expect(packet(over), JSON.stringify(over)).toBe(false);
  });
});
