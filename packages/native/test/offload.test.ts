import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checksum, createSlab, type FrameSlab, Row } from '@espalier/wire';
import { afterAll, describe, expect, it } from 'vitest';
import { load, slabId } from '../src/index.ts';

const { binding } = load();
const here = describe.skipIf(binding === null);
const dir = mkdtempSync(join(tmpdir(), 'espalier-offload-'));
afterAll(() => rmSync(dir, { recursive: true }));

const NEEDS_CSUM = 1;
const TCPV4 = 1;
const TCPV6 = 4;
const UDP_L4 = 5;

/** One's complement sum of 16-bit words, the obvious way. */
function sum(bytes: Uint8Array, start = 0): number {
  let s = start;
  for (let i = 0; i < bytes.length; i += 2) s += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (s > 0xffff) s = (s & 0xffff) + (s >>> 16);
  return s;
}

interface Shape {
  readonly v6?: boolean;
  readonly udp?: boolean;
  readonly df?: boolean;
  readonly options?: number;
  readonly payload: Uint8Array;
  readonly seq?: number;
  readonly flags?: number;
  readonly id?: number;
}

/** A whole packet with right checksums. */
function packet({
  v6 = false,
  udp = false,
  df = true,
  options = 0,
  payload,
  seq = 1,
  flags = 0x10,
  id = 7,
}: Shape): Uint8Array {
  const l4 = v6 ? 40 : 20;
  const header = udp ? 8 : 20 + options;
  const bytes = new Uint8Array(l4 + header + payload.length);
  const view = new DataView(bytes.buffer);
  const length = header + payload.length;
  if (v6) {
    bytes[0] = 0x60;
    view.setUint16(4, length);
    bytes[6] = udp ? 17 : 6;
    bytes[7] = 64;
    for (let i = 0; i < 32; i++) bytes[8 + i] = 0x20 + i;
  } else {
    bytes[0] = 0x45;
    view.setUint16(2, bytes.length);
    view.setUint16(4, id);
    view.setUint16(6, df ? 0x4000 : 0);
    bytes[8] = 64;
    bytes[9] = udp ? 17 : 6;
    bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 12);
    view.setUint16(10, ~sum(bytes.subarray(0, 20)) & 0xffff);
  }
  view.setUint16(l4, 1000);
  view.setUint16(l4 + 2, 2000);
  if (udp) view.setUint16(l4 + 4, length);
  else {
    view.setUint32(l4 + 4, seq);
    view.setUint32(l4 + 8, 99);
    bytes[l4 + 12] = ((20 + options) / 4) << 4;
    bytes[l4 + 13] = flags;
    view.setUint16(l4 + 14, 501);
    for (let i = 0; i < options; i++) bytes[l4 + 20 + i] = 1;
  }
  bytes.set(payload, l4 + header);
  const pseudo = Uint8Array.from([
    ...(v6 ? bytes.subarray(8, 40) : bytes.subarray(12, 20)),
    0,
    udp ? 17 : 6,
    length >> 8,
    length & 255,
  ]);
  const check = ~sum(bytes.subarray(l4), sum(pseudo)) & 0xffff;
  view.setUint16(l4 + (udp ? 6 : 16), udp && check === 0 ? 0xffff : check);
  return bytes;
}

/** What the kernel would hand over: the payloads as one packet, its checksum field the pseudo-header's sum. */
function superPacket(shape: Shape, size: number): Uint8Array {
  const whole = packet(shape);
  const l4 = shape.v6 ? 40 : 20;
  const header = Buffer.alloc(10);
  header[0] = NEEDS_CSUM;
  header[1] = shape.udp ? UDP_L4 : shape.v6 ? TCPV6 : TCPV4;
  header.writeUInt16LE(l4 + (shape.udp ? 8 : 20 + (shape.options ?? 0)), 2);
  header.writeUInt16LE(size, 4);
  header.writeUInt16LE(l4, 6);
  header.writeUInt16LE(shape.udp ? 6 : 16, 8);
  return Uint8Array.from([...header, ...whole]);
}

/** Rows 0 to `length` - 1, in memory that may be registered. */
function rowList(length: number): Int32Array {
  const list = new Int32Array(new SharedArrayBuffer(4 * length));
  for (let i = 0; i < length; i++) list[i] = i;
  return list;
}

/** A file in the place of a device. */
function read(content: Uint8Array, slab: FrameSlab): Uint8Array[] {
  const file = join(dir, 'in');
  writeFileSync(file, content);
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const queue = binding!.tunFile(fd);
  const list = rowList(64);
  const id = binding!.registerList(list);
  try {
    const out: Uint8Array[] = [];
    for (;;) {
      const got = binding!.tunRead(queue, slabId(binding!, slab), id, 0, 64);
      for (let i = 0; i < got; i++) {
        const r = i * Row.WORDS;
        if (slab.rows[r + Row.FATE] !== 0) out.push(Uint8Array.of(256 + slab.rows[r + Row.FATE]!));
        else out.push(slab.bytes.slice(slab.rows[r + Row.START]!, slab.rows[r + Row.END]!));
      }
      if (got < 64) return out;
    }
  } finally {
    binding!.unregisterList(id);
    binding!.tunDetach(queue);
    closeSync(fd);
  }
}

function write(packets: readonly Uint8Array[], slab: FrameSlab): Uint8Array {
  const file = join(dir, 'out');
  const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NONBLOCK);
  const queue = binding!.tunFile(fd);
  const list = rowList(packets.length);
  const id = binding!.registerList(list);
  packets.forEach((p, i) => {
    const start = i * slab.frameSize + slab.headroom;
    slab.bytes.set(p, start);
    slab.rows[i * Row.WORDS + Row.START] = start;
    slab.rows[i * Row.WORDS + Row.END] = start + p.length;
  });
  try {
    expect(binding!.tunWrite(queue, slabId(binding!, slab), id, 0, packets.length)).toBe(packets.length);
  } finally {
    binding!.unregisterList(id);
    binding!.tunDetach(queue);
    closeSync(fd);
  }
  return readFileSync(file);
}

const bytes = (length: number, from = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => (from + i * 7) & 255);
const slab = createSlab({ frames: 128 });

here('a super-packet read from a TUN', () => {
  for (const v6 of [false, true])
    for (const options of [0, 12])
      for (const size of [1000, 1001])
        it(`is cut into what a device would have sent: TCP over IPv${v6 ? 6 : 4}, ${options} bytes of options, ${size} each`, () => {
          const payload = bytes(size * 70 + 13 > 60_000 ? 59_000 : size * 70 + 13);
          const flags = 0x10 | 0x08;
          const cut = read(superPacket({ v6, options, payload, seq: 0xfffffff0, flags }, size), slab);
          const want: Uint8Array[] = [];
          for (let at = 0, n = 0; at < payload.length; at += size, n++) {
            const last = at + size >= payload.length;
            want.push(
              packet({
                v6,
                options,
                payload: payload.subarray(at, at + size),
                seq: (0xfffffff0 + at) >>> 0,
                flags: last ? flags : 0x10,
                id: 7 + n,
              }),
            );
          }
          expect(cut.length).toBe(want.length);
          cut.forEach((p, i) => {
            expect(Buffer.compare(p, want[i]!)).toBe(0);
          });
        });

  it('is cut into datagrams when it is UDP', () => {
    const payload = bytes(5003);
    const cut = read(superPacket({ udp: true, payload }, 1000), slab);
    expect(cut.map((p) => p.length)).toEqual([1028, 1028, 1028, 1028, 1028, 31]);
    cut.forEach((p, i) => {
      const want = packet({ udp: true, payload: payload.subarray(i * 1000, i * 1000 + 1000), id: 7 + i });
      expect(Buffer.compare(p, want)).toBe(0);
    });
  });

  it('gets its checksum filled in when it is whole but not summed', () => {
    const want = packet({ payload: bytes(101) });
    const partial = want.slice();
    const pseudo = sum(Uint8Array.from([...want.subarray(12, 20), 0, 6, 0, 121]));
    new DataView(partial.buffer).setUint16(36, pseudo);
    const header = Uint8Array.from([NEEDS_CSUM, 0, 0, 0, 0, 0, 20, 0, 16, 0]);
    expect(Buffer.compare(read(Uint8Array.from([...header, ...partial]), slab)[0]!, want)).toBe(0);
  });

  it('is refused, not cut, when its headers do not fit it, and when a segment does not fit a frame', () => {
    const good = superPacket({ payload: bytes(3000) }, 1000);
    for (let at = 0; at < 10; at++)
      for (const value of [0, 1, 0x7f, 0xff]) {
        const bad = good.slice();
        bad[at] = value;
        // Whatever the header says: rows inside the slab, and no crash.
        for (const p of read(bad, slab)) expect(p.length).toBeLessThanOrEqual(slab.frameSize);
      }
    for (let length = 1; length < 80; length++) read(good.slice(0, length), slab);
    const tooBig = read(superPacket({ payload: bytes(6000) }, 3000), slab);
    expect(tooBig).toEqual([Uint8Array.of(255), Uint8Array.of(255)]);
  });

  const MALFORMED = [Uint8Array.of(254)];
  const L4_AT = 6;
  it.each<[string, Partial<Shape>, (superPacket: Uint8Array) => void]>([
    ['an IPv4 header longer than where TCP begins', {}, (s) => (s[10] = 0x46)],
    ['an IPv4 header of the greatest length', {}, (s) => (s[10] = 0x4f)],
    ['an IPv4 header shorter than where UDP begins', { udp: true }, (s) => (s[L4_AT] = 24)],
    // Whose TCP header looks right.
    [
      'an IPv4 header of 16 bytes',
      {},
      (s) =>
        s
          .fill(0x44, 10, 11)
          .fill(16, L4_AT, L4_AT + 1)
          .fill(0x50, 38, 39),
    ],
    [
      'an IPv4 header of none',
      {},
      (s) =>
        s
          .fill(0x40, 10, 11)
          .fill(0, L4_AT, L4_AT + 1)
          .fill(0x50, 22, 23),
    ],
    ['TCP inside the IPv6 header', { v6: true }, (s) => (s[L4_AT] = 39)],
    ['a TCP header of 16 bytes', {}, (s) => (s[10 + 20 + 12] = 0x40)],
    ['a TCP header longer than the packet', { payload: bytes(8) }, (s) => (s[10 + 20 + 12] = 0xf0)],
    ['a TCP header and nothing behind it', { payload: bytes(40) }, (s) => (s[10 + 20 + 12] = 0xf0)],
    ['TCP beyond the packet', {}, (s) => (s[L4_AT + 1] = 0xff)],
    ['segments of no bytes', {}, (s) => s.fill(0, 4, 6)],
    ['no sum to be made', {}, (s) => (s[0] = 0)],
    ['an unknown way to be cut', {}, (s) => (s[1] = 3)],
  ])('is malformed with %s', (_, shape, change) => {
    const good = superPacket({ payload: bytes(3000), ...shape }, 1000);
    const bad = good.slice();
    change(bad);
    expect(read(good, slab)[0]!.length).toBeGreaterThan(1);
    expect(read(bad, slab)).toEqual(MALFORMED);
  });

  it('keeps the options of its IPv4 header, and sums them', () => {
    const plain = superPacket({ payload: bytes(2500) }, 1000);
    const whole = Uint8Array.from([...plain.subarray(0, 30), 7, 4, 4, 9, ...plain.subarray(30)]);
    whole[10] = 0x46;
    whole[L4_AT] = 24;
    const cut = read(whole, slab);
    expect(cut.map((p) => p.length)).toEqual([1044, 1044, 544]);
    for (const p of cut) {
      expect(sum(p.subarray(0, 24))).toBe(0xffff);
      expect([...p.subarray(20, 24)]).toEqual([7, 4, 4, 9]);
    }
  });
});

here('packets written to a TUN', () => {
  const flow = (n: number, last = 0x10): Uint8Array[] =>
    Array.from({ length: n }, (_, i) =>
      packet({ payload: bytes(1000, i), seq: 5 + 1000 * i, id: 7 + i, flags: i === n - 1 ? last : 0x10 }),
    );

  it('leave as one when they follow one another, and cut again they are the same', () => {
    for (const v6 of [false, true]) {
      const packets = Array.from({ length: 20 }, (_, i) =>
        packet({
          v6,
          payload: bytes(i === 19 ? 77 : 1000, i),
          seq: 5 + 1000 * i,
          id: 7 + i,
          flags: i === 19 ? 0x18 : 0x10,
        }),
      );
      const out = write(packets, slab);
      expect(out[1]).toBe(v6 ? TCPV6 : TCPV4);
      expect(out.length).toBe(10 + (v6 ? 60 : 40) + 19 * 1000 + 77);
      const again = read(out, slab);
      expect(again.length).toBe(20);
      again.forEach((p, i) => {
        expect(Buffer.compare(p, packets[i]!)).toBe(0);
      });
    }
  });

  const apart: [string, (p: Uint8Array[]) => void][] = [
    ['a gap in the numbers', (p) => (p[1] = packet({ payload: bytes(1000), seq: 5 + 1001 }))],
    ['another TTL', (p) => (p[1]![8] = 63)],
    ['another port', (p) => (p[1]![20] = 9)],
    ['another acknowledgement', (p) => (p[1]![28] = 9)],
    ['another window', (p) => (p[1]![34] = 9)],
    ['a FIN', (p) => (p[1] = packet({ payload: bytes(1000), seq: 1005, flags: 0x11 }))],
    ['a SYN', (p) => (p[0] = packet({ payload: bytes(1000), seq: 5, flags: 0x12 }))],
    ['no payload', (p) => (p[1] = packet({ payload: bytes(0), seq: 1005 }))],
    ['a longer one', (p) => (p[1] = packet({ payload: bytes(1001), seq: 1005 }))],
    ['a wrong checksum', (p) => (p[1]![60] = p[1]![60]! ^ 1)],
    ['a wrong checksum in the first', (p) => (p[0]![60] = p[0]![60]! ^ 1)],
    ['another protocol', (p) => (p[1] = packet({ udp: true, payload: bytes(1000) }))],
    ['a fragment', (p) => (p[1]![6] = 0x20)],
    ['IP options', (p) => (p[1]![0] = 0x46)],
  ];
  it.each(apart)('stay apart, untouched, where there is %s', (_, change) => {
    const packets = flow(2);
    change(packets);
    const out = write(packets, slab);
    expect(out.length).toBe(20 + packets[0]!.length + packets[1]!.length);
    expect(Buffer.compare(out.subarray(10, 10 + packets[0]!.length), packets[0]!)).toBe(0);
    expect(Buffer.compare(out.subarray(20 + packets[0]!.length), packets[1]!)).toBe(0);
  });

  it('leave as one when they are datagrams of one flow and length, and cut again they are the same', () => {
    for (const v6 of [false, true]) {
      const packets = Array.from({ length: 20 }, (_, i) =>
        packet({ v6, udp: true, payload: bytes(i === 19 ? 77 : 1000, i), id: 7 + i }),
      );
      const out = write(packets, slab);
      expect(out[1]).toBe(UDP_L4);
      expect(out.length).toBe(10 + (v6 ? 48 : 28) + 19 * 1000 + 77);
      const again = read(out, slab);
      expect(again.length).toBe(20);
      again.forEach((p, i) => {
        expect(Buffer.compare(p, packets[i]!)).toBe(0);
      });
    }
  });

  const datagram = (more: Partial<Shape> = {}): Uint8Array => packet({ udp: true, payload: bytes(1000), ...more });
  it.each<[string, (p: Uint8Array[]) => void]>([
    ['that may be fragmented', (p) => p.fill(datagram({ df: false }))],
    ['without a checksum', (p) => p.fill(datagram().fill(0, 26, 28))],
    ['with a wrong checksum', (p) => (p[1]![60] = p[1]![60]! ^ 1)],
    ['of another port', (p) => (p[1]![22] = 9)],
    ['of another TTL', (p) => (p[1]![8] = 63)],
    ['of which the second is longer', (p) => (p[1] = datagram({ payload: bytes(1001) }))],
    ['whose length is not that of the packet', (p) => (p[1]![25] = 9)],
    ['without a payload', (p) => (p[1] = datagram({ payload: bytes(0) }))],
  ])('stay apart, untouched, when they are datagrams %s', (_, change) => {
    const packets = [datagram(), datagram({ id: 8 })];
    change(packets);
    const out = write(packets, slab);
    expect(out.length).toBe(20 + packets[0]!.length + packets[1]!.length);
    expect(Buffer.compare(out.subarray(10, 10 + packets[0]!.length), packets[0]!)).toBe(0);
    expect(Buffer.compare(out.subarray(20 + packets[0]!.length), packets[1]!)).toBe(0);
  });

  it('are at most 64 datagrams at once', () => {
    const packets = Array.from({ length: 70 }, (_, i) => datagram({ payload: bytes(100, i) }));
    expect(write(packets, slab).length).toBe(70 * 100 + 2 * 38);
  });

  it('end a run at a pushed or shorter one', () => {
    const packets = [...flow(3, 0x18), packet({ payload: bytes(1000), seq: 3005 })];
    const out = write(packets, slab);
    expect(out.length).toBe(10 + 40 + 3000 + 10 + 1040);
  });

  it('never exceed 65,535 bytes', () => {
    const packets = Array.from({ length: 60 }, (_, i) => packet({ payload: bytes(1400, i), seq: 1 + 1400 * i }));
    const out = write(packets, slab);
    const first = 10 + (((out[12]! << 8) | out[13]!) as number);
    expect(first).toBeLessThanOrEqual(10 + 65_535);
    expect(first).toBe(10 + 40 + 46 * 1400);
    expect(out.length).toBe(60 * 1400 + 2 * 50);
  });
});

describe('the checksum of the test itself', () => {
  it('is that of wire', () => {
    const data = bytes(33);
    expect(checksum(new DataView(data.buffer), 0, 33)).toBe(~sum(data) & 0xffff);
  });
});
