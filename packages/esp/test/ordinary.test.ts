/** What is done at once for ordinary packets against the step-by-step way, which everything out of the ordinary takes. */
import { Lifetime, ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { Row, RowState, writeIpv4Checksum } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName, type CryptoEngine, DropReason, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspOutbound, EspPath, type InboundTicket, type OutboundTicket } from '../src/index.ts';
import type { Extent } from '../src/outbound.ts';
import { Bench, ipv4, random } from './bench-rows.ts';
import { LINK, NAT_T, V4 } from './rig.ts';

function ticketOf(algorithm: AlgorithmName): Omit<OutboundTicket, 'allocator'> {
  return {
    slot: 0,
    spi: 0x1001,
    ...V4,
    mode: 'tunnel',
    algorithm,
    icvLength: ALGORITHMS[algorithm].icvLength,
    esn: true,
    key: SaKey.import(algorithm, new Uint8Array(ALGORITHMS[algorithm].keyLength).fill(7)).share(),
    encap: null,
    offload: false,
    noHandle: 'drop',
    link: LINK,
    mtu: 1500,
  };
}

/** A packet of either family with arbitrary bytes where the outer header takes something from. */
function inner(draw: (below: number) => number): Uint8Array {
  const six = draw(3) === 0;
  const bytes = new Uint8Array(40 + draw(1500)).map(() => draw(256));
  const view = new DataView(bytes.buffer);
  bytes[0] = six ? 0x60 | (bytes[0]! & 15) : 0x45;
  view.setUint16(six ? 4 : 2, bytes.length - (six ? 40 : 0));
  return bytes;
}

describe('a burst written at once', () => {
  it('has the bytes and the rows of packets written one by one', () => {
    const draw = random(1);
    const pick = <T>(...of: T[]): T => of[draw(of.length)]!;
    let written = 0;
    for (let round = 0; round < 150; round++) {
      const ticket = {
        ...ticketOf(pick(...ALGORITHM_NAMES)),
        encap: pick(null, NAT_T),
        link: pick(null, LINK),
        dscp: pick<'copy' | number>('copy', 46),
        ecn: pick<'normal' | 'compatibility'>('normal', 'compatibility'),
        df: pick<'copy' | 'set' | 'clear'>('copy', 'set', 'clear'),
        ttl: pick<'copy' | number>('copy', 3),
        mtu: pick(1500, 700),
      };
      const first = pick(1, 0xffff_fff0, 0x1_0000_0000);
      const shift = pick(0, 0, 1, 2, 3);
      const most = pick(600, 1540);
      const packets = Array.from({ length: 32 }, () => inner(draw).subarray(0, most));
      // One by one; at once as they come; at once, and in words where they are aligned, by the extent of all.
      const [each, whole, known] = ['each', 'whole', 'known'].map((way) => {
        const allocator = SequenceAllocator.create({ esn: true });
        allocator.advanceTo(first);
        const { memory, offset } = allocator;
        const sa = new EspOutbound({ ...ticket, allocator: { memory, offset } }, 5, null, null, way === 'each');
        const bench = new Bench(32);
        for (const packet of packets) place(bench, packet, shift);
        const list = bench.burst.list.slice();
        sa.encap(bench.burst, list, 0, 32, 5, way === 'known' ? extentOf(bench) : null);
        for (let i = 0; i < 32; i++) {
          const r = i * Row.WORDS;
          bench.slab.rows[r + Row.FLOW] = 0;
          // In front of an Ethernet header that is written in words.
          const at = bench.slab.rows[r + Row.START]!;
          if (bench.slab.rows[r + Row.STATE] === RowState.TO_SEAL) bench.slab.bytes.fill(0, at - 2, at);
        }
        return { sa, bench, next: allocator.next() };
      });
      for (const { sa, bench, next } of [whole!, known!]) {
        expect(bench.slab.rows).toEqual(each!.bench.slab.rows);
        expect(Buffer.compare(bench.slab.bytes, each!.bench.slab.bytes)).toBe(0);
        expect([sa.encapped, sa.bytes, next]).toEqual([each!.sa.encapped, each!.sa.bytes, each!.next]);
      }
      written += whole!.sa.encapped;
    }
    expect(written).toBeGreaterThan(1500);
  });

  it('is looked at packet by packet where one of them may not fit', () => {
    const reasons = new Map<number, number>();
    for (let round = 0; round < 200; round++) {
      const [each, known] = [null, extentOf].map((extent) => {
        const allocator = SequenceAllocator.create({ esn: true });
        const { memory, offset } = allocator;
        const sa = new EspOutbound({ ...ticketOf('aes128gcm16'), allocator: { memory, offset } }, 5);
        const bench = new Bench(4, 1792);
        const dice = random(round + 1);
        for (let i = 0; i < 4; i++) {
          const r = bench.put(ipv4(1400));
          const start = i * 1792 + [256, 256, 48, 49, 50, 52, 376, 374][dice(8)]!;
          bench.slab.rows[r + Row.START] = start;
          bench.slab.rows[r + Row.END] = start + [1400, 1400, 1400, 1446, 1447][dice(5)]!;
        }
        sa.encap(bench.burst, bench.burst.list.slice(), 0, 4, 5, extent === null ? null : extent(bench));
        return { bench, next: allocator.next() };
      });
      expect(known!.bench.fates()).toEqual(each!.bench.fates());
      expect(known!.next).toBe(each!.next);
      for (const fate of known!.bench.fates()) reasons.set(fate, (reasons.get(fate) ?? 0) + 1);
    }
    expect([...reasons.keys()].sort((a, b) => a - b)).toEqual(
      [0, DropReason.TOO_BIG, DropReason.NO_ROOM].sort((a, b) => a - b),
    );
  });
});

/** Appends a packet that begins `shift` bytes later than others. */
function place(bench: Bench, packet: Uint8Array, shift: number): void {
  const { rows, bytes } = bench.slab;
  const r = bench.put(packet);
  rows[r + Row.SA] = 0;
  bytes.copyWithin(rows[r + Row.START]! + shift, rows[r + Row.START]!, rows[r + Row.END]!);
  rows[r + Row.START] = rows[r + Row.START]! + shift;
  rows[r + Row.END] = rows[r + Row.END]! + shift;
}

/** The plain way. */
function extentOf({ burst, slab }: Bench): Extent {
  const packets = Array.from(burst.list.subarray(0, burst.length), (row) => ({
    first: row * slab.frameSize,
    start: slab.rows[row * Row.WORDS + Row.START]!,
    end: slab.rows[row * Row.WORDS + Row.END]!,
  }));
  return {
    longest: Math.max(...packets.map(({ start, end }) => end - start)),
    ahead: Math.min(...packets.map(({ first, start }) => start - first)),
    behind: Math.min(...packets.map(({ first, end }) => first + slab.frameSize - end)),
    aligned: packets.every(({ start }) => start % 4 === 0),
  };
}

/** Takes every ICV for good: what is inside is then the test's to choose. */
const trusting: CryptoEngine = {
  name: 'trusting',
  algorithms: ALGORITHM_NAMES,
  install: () => 1,
  remove: () => undefined,
  seal: () => undefined,
  open: ({ rows, list, length }) => {
    let opened = 0;
    for (let i = 0; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0 || rows[r + Row.KEY] === 0) continue;
      rows[r + Row.STATE] = RowState.OPENED;
      opened++;
    }
    return opened;
  },
};

describe('a frame that is looked at at once', () => {
  it('ends as one that is looked at step by step', () => {
    const draw = random(2);
    const any = [4, 16].map((n) => ({
      source: new Uint8Array(n),
      sourceBits: 0,
      destination: new Uint8Array(n),
      destinationBits: 0,
    }));
    const ends = new Map<number, number>();
    for (const [linkType, encap] of [
      ['ethernet', null],
      ['ip', null],
      ['ethernet', NAT_T],
    ] as const) {
      // Behind a VLAN tag and with selectors, whatever they allow, a packet is looked at step by step.
      const [once, steps] = [false, true].map((slowly) => {
        const window = ReplayWindow.create({ size: 1024, esn: true });
        const bench = new Bench(32);
        const path = new EspPath({
          slab: bench.slab,
          engine: trusting,
          maxSas: 4,
          linkType: slowly ? 'ethernet' : linkType,
          offloads: null,
        });
        const { link: _, offload: __, noHandle: ___, mtu: ____, ...ticket } = ticketOf('aes128gcm16');
        const lifetime = Lifetime.create();
        const other = ReplayWindow.create({ size: 1024, esn: true });
        for (const [slot, { memory }] of [window, other].entries())
          path.addInbound({
            ...ticket,
            slot,
            spi: ticket.spi + slot,
            encap,
            window: { memory, offset: 0 },
            lifetime: { memory: lifetime.memory, offset: 0 },
            ...(slowly && { selectors: any }),
          } as InboundTicket);
        return { bench, path, window };
      });
      for (let number = 1; number < 10_000; ) {
        const frames = Array.from({ length: 32 }, () =>
          frame(draw, linkType === 'ip' ? 0 : 14, encap !== null, number++),
        );
        for (const { bench, path } of [once!, steps!]) {
          bench.clear();
          for (const f of frames) bench.put(path === once!.path ? f : tagged(f, linkType === 'ip'), RowState.RECEIVED);
          path.inbound(bench.burst);
        }
        for (let i = 0; i < 32; i++) {
          const fate = once!.bench.at(i, Row.FATE);
          if (fate !== steps!.bench.at(i, Row.FATE))
            expect(fate, `frame ${number - 32 + i}`).toBe(steps!.bench.at(i, Row.FATE));
          ends.set(fate, (ends.get(fate) ?? 0) + 1);
          if (fate !== 0) continue;
          expect(Buffer.compare(once!.bench.bytes(i), steps!.bench.bytes(i))).toBe(0);
          for (const { bench } of [once!, steps!]) expect(bench.at(i, Row.L3)).toBe(bench.at(i, Row.START));
        }
        expect(once!.window.top()).toBe(steps!.window.top());
      }
      expect(once!.path.stats).toEqual(steps!.path.stats);
    }
    // Enough of all sorts for this to say something.
    expect(ends.get(0)).toBeGreaterThan(7000);
    expect(ends.size).toBeGreaterThan(8);
  });
});

/** The frame with a VLAN tag; an IP packet gets an Ethernet header too. */
function tagged(frame: Uint8Array, bare: boolean): Uint8Array {
  const type = frame[0]! >> 4 === 6 ? [0x86, 0xdd] : [8, 0];
  const packet = bare ? [...LINK.subarray(0, 12), ...type, ...frame] : [...frame];
  return Uint8Array.of(...packet.slice(0, 12), 0x81, 0, 0, 5, ...packet.slice(12));
}

/** An ESP frame, one in eight of the second SA, with up to two bytes anywhere but in the SPI and the number changed; the outer checksum often mended. */
function frame(draw: (below: number) => number, link: number, udp: boolean, number: number): Uint8Array {
  const packet = inner(draw).subarray(0, 40 + draw(200));
  const { length } = packet;
  new DataView(packet.buffer).setUint16(packet[0]! >> 4 === 6 ? 4 : 2, length - (packet[0]! >> 4 === 6 ? 40 : 0));
  const pad = (4 - ((length + 2) % 4)) % 4;
  const esp = link + 20 + (udp ? 8 : 0);
  const bytes = new Uint8Array(esp + 16 + length + pad + 2 + 16);
  const view = new DataView(bytes.buffer);
  bytes.set(LINK.subarray(0, link));
  if (link > 0) view.setUint16(12, 0x0800);
  view.setUint32(link, 0x4500_0000 | (draw(4) << 16) | (bytes.length - link));
  bytes[link + 8] = 64;
  bytes[link + 9] = udp ? 17 : 50;
  bytes.set(V4.source, link + 12);
  bytes.set(V4.destination, link + 16);
  if (udp) {
    view.setUint16(link + 20, 4500);
    view.setUint16(link + 22, 4500);
    view.setUint16(link + 24, bytes.length - link - 20);
  }
  view.setUint32(esp, draw(8) === 0 ? 0x1002 : 0x1001);
  view.setUint32(esp + 4, number);
  bytes.set(packet, esp + 16);
  for (let i = 0; i < pad; i++) bytes[esp + 16 + length + i] = i + 1;
  bytes[esp + 16 + length + pad] = pad;
  bytes[esp + 17 + length + pad] = packet[0]! >> 4 === 6 ? 41 : 4;
  for (let changes = draw(3); changes > 0; changes--) {
    const spots = [draw(esp), esp + 16 + draw(length), esp + 16 + draw(20), bytes.length - 17 - draw(pad + 2)];
    bytes[spots[draw(4)]!] = draw(3) === 0 ? draw(256) : draw(64);
  }
  // No tag of its own.
  if (link > 0 && bytes[12] === 0x81) bytes[12] = 0x82;
  if (draw(4) > 0 && bytes[link] === 0x45) writeIpv4Checksum(view, link);
  return draw(20) === 0 ? bytes.subarray(0, bytes.length - draw(60)) : bytes;
}
