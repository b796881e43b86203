import { readFileSync } from 'node:fs';
import { ReplayWindow, SequenceAllocator, Verdict } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import {
  ALGORITHMS,
  type AlgorithmName,
  type CryptoEngine,
  DropReason,
  dropName,
  type PolicyTicket,
  SaKey,
} from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { EspPath, type InboundTicket, type OutboundTicket } from '../src/index.ts';
import { Bench, hex, ipv4, ipv6, toHex } from './bench-rows.ts';
import { HERE } from './every-engine.ts';
import { LINK, protect, V4, V6 } from './rig.ts';

const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`vectors/${name}`, import.meta.url), 'utf8'));

interface Options {
  algorithm?: AlgorithmName;
  esn?: boolean;
  outer?: typeof V4;
  encap?: { sport: number; dport: number } | null;
  start?: number;
  link?: Uint8Array | null;
}

/** Tickets of one SA, both ends, sharing one key. */
function tickets(options: Options): {
  out: OutboundTicket;
  in: InboundTicket;
  window: ReplayWindow;
  allocator: SequenceAllocator;
} {
  const { algorithm = 'aes128gcm16', esn = false, outer = V4, encap = null, start = 1, link = LINK } = options;
  const material = Uint8Array.from({ length: ALGORITHMS[algorithm].keyLength }, (_, i) => i * 3 + 1);
  const key = SaKey.import(algorithm, material).share();
  const window = ReplayWindow.create({ size: 1024, esn });
  const allocator = SequenceAllocator.create({ esn });
  if (start > 1) {
    allocator.advanceTo(start);
    window.acceptUpTo(start - 1);
  }
  const { icvLength } = ALGORITHMS[algorithm];
  const common = { slot: 0, spi: 0x1001, ...outer, mode: 'tunnel' as const, algorithm, icvLength, esn, key, encap };
  return {
    out: {
      ...common,
      allocator: { memory: allocator.memory, offset: 0 },
      offload: false,
      noHandle: 'drop',
      link,
      mtu: 1500,
    },
    in: { ...common, window: { memory: window.memory, offset: 0 } },
    window,
    allocator,
  };
}

function path(make: () => CryptoEngine, bench: Bench): EspPath {
  return new EspPath({
    slab: bench.slab,
    engine: make(),
    maxSas: 16,
    linkType: 'ethernet',
    offloads: null,
    link: LINK,
  });
}

describe.each(HERE)('the path with engine %s', (_, make) => {
  const combinations: Options[] = [];
  const everywhere = ['aes128gcm16', 'chacha20poly1305', 'aes256cbc-sha256'];
  for (const algorithm of make().algorithms)
    for (const esn of [false, true])
      for (const outer of everywhere.includes(algorithm) ? [V4, V6] : [esn ? V6 : V4])
        for (const encap of [null, { sport: 4500, dport: 4500 }])
          if (encap === null || everywhere.includes(algorithm)) combinations.push({ algorithm, esn, outer, encap });

  it('carries IPv4 and IPv6 packets of every size through every kind of tunnel', () => {
    for (const options of combinations) {
      const t = tickets({ ...options, ...(options.esn ? { start: 2 ** 32 - 4 } : {}) });
      const bench = new Bench();
      const a = path(make, bench);
      const b = path(make, bench);
      a.addOutbound(t.out);
      a.setPolicies(protect(0));
      b.addInbound(t.in);
      const packets = [20, 21, 22, 23, 24, 64, 576, 1200, 1380]
        .map((n) => ipv4(n))
        .concat([40, 41, 500].map((n) => ipv6(n)));
      for (const p of packets) bench.put(p);
      a.outbound(bench.burst);
      expect(bench.fates()).toEqual(packets.map(() => 0));
      packets.forEach((_p, i) => {
        expect(bench.at(i, Row.STATE)).toBe(RowState.SEALED);
        // Where there is an IV that must not repeat, it is the number.
        if (ALGORITHMS[options.algorithm!].iv !== 'number') return;
        const iv = bench.slab.view.getBigUint64(bench.at(i, Row.ESP) + 8);
        expect(Number(iv)).toBe((options.esn ? 2 ** 32 - 4 : 1) + i);
      });
      const frames = packets.map((_p, i) => bench.bytes(i));
      bench.clear();
      for (const f of frames) bench.put(f, RowState.RECEIVED);
      b.inbound(bench.burst);
      expect(bench.fates().map(dropName)).toEqual(packets.map(() => 'NONE'));
      packets.forEach((p, i) => {
        expect(toHex(bench.bytes(i))).toBe(toHex(p));
      });
      // The same again is refused, all of it, before any crypto.
      bench.clear();
      for (const f of frames) bench.put(f, RowState.RECEIVED);
      b.inbound(bench.burst);
      expect(bench.fates()).toEqual(packets.map(() => Verdict.REPLAYED));
      expect(bench.at(0, Row.STATE)).toBe(RowState.RECEIVED);
    }
  });

  it('lets two workers share one SA: every number once, every packet once', () => {
    const t = tickets({ esn: true });
    const bench = new Bench(256);
    const senders = [path(make, bench), path(make, bench)];
    for (const s of senders) {
      s.addOutbound(t.out);
      s.setPolicies(protect(0));
    }
    const receivers = [path(make, bench), path(make, bench)];
    for (const r of receivers) r.addInbound(t.in);
    const numbers = new Set<bigint>();
    const frames: Uint8Array[] = [];
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 16; i++) bench.put(ipv4(64 + i));
      senders[round & 1]!.outbound(bench.burst);
      for (let i = 0; i < 16; i++) {
        numbers.add(bench.slab.view.getBigUint64(bench.at(i, Row.ESP) + 8));
        frames.push(bench.bytes(i));
      }
      bench.clear();
    }
    expect(numbers.size).toBe(320);
    let accepted = 0;
    for (let copy = 0; copy < 3; copy++)
      for (let i = 0; i < frames.length; i += 16) {
        for (const f of frames.slice(i, i + 16)) bench.put(f, RowState.RECEIVED);
        receivers[(i / 16 + copy) & 1]!.inbound(bench.burst);
        accepted += bench.fates().filter((f) => f === 0).length;
        bench.clear();
      }
    expect(accepted).toBe(320);
  });

  for (const name of [
    'aes-gcm-128-tunnel-v4',
    'aes-gcm-256-tunnel-v6-esn',
    'aes-gcm-128-tunnel-v4in6-esn',
    'aes-gcm-128-tunnel-v4-esn-natt',
    'aes-gcm-128-tunnel-v4-esn-from-fffffff8',
    'chacha20-poly1305-tunnel-v4-esn',
    'chacha20-poly1305-tunnel-v6',
  ])
    it(`opens what a Linux kernel sealed: ${name}`, () => {
      const v = read(`linux-${name}.json`) as {
        key: string;
        spi: number;
        esn: boolean;
        firstSeq: string;
        encap: unknown;
        packets: { seq: string; inner: string; wire: string | null }[];
      };
      const material = hex(v.key);
      const algorithm = (
        name.startsWith('chacha') ? 'chacha20poly1305' : `aes${(material.length - 4) * 8}gcm16`
      ) as AlgorithmName;
      const first = v.packets.find((p) => p.wire)!.wire!;
      const v6 = first.slice(24, 28) === '86dd';
      const at = v6 ? 28 + 16 : 28 + 24;
      const width = v6 ? 32 : 8;
      const t = tickets({ algorithm, esn: v.esn, start: Number(v.firstSeq) });
      const bench = new Bench(128);
      const b = path(make, bench);
      b.addInbound({
        ...t.in,
        spi: v.spi,
        source: hex(first.slice(at, at + width)),
        destination: hex(first.slice(at + width, at + 2 * width)),
        key: SaKey.import(algorithm, material).share(),
        encap: v.encap ? { sport: 4500, dport: 4500 } : null,
      });
      const sent = v.packets.filter((p) => p.wire !== null);
      for (const p of sent) {
        // The capture jumps to other parts of the number space; a receiver learns of such a jump from outside.
        if (Number(p.seq) > t.window.top() + 1000) t.window.acceptUpTo(Number(p.seq) - 1);
        bench.clear();
        bench.put(hex(p.wire!), RowState.RECEIVED);
        b.inbound(bench.burst);
        expect(dropName(bench.at(0, Row.FATE)), p.seq).toBe('NONE');
        expect(toHex(bench.bytes(0))).toBe(p.inner);
      }
    });
});

describe('the path', () => {
  it('copies ECN out and back as RFC 6040 says and drops congestion on a packet that cannot carry it', () => {
    const t = tickets({});
    const bench = new Bench();
    const a = path(nodeEngine, bench);
    a.addOutbound(t.out);
    a.setPolicies(protect(0));
    for (const tos of [0, 1, 2, 3]) bench.put(ipv4(60, 1, 0xb8 | tos));
    a.outbound(bench.burst);
    expect([0, 1, 2, 3].map((i) => bench.slab.bytes[bench.at(i, Row.L3) + 1])).toEqual([0xb8, 0xb9, 0xba, 0xbb]);
    const frames = [0, 1, 2, 3].map((i) => bench.bytes(i));
    bench.clear();
    for (const f of frames) {
      // A router marks congestion: the outer header changes, its checksum with it.
      const v = new DataView(f.buffer, f.byteOffset);
      const before = v.getUint16(14);
      f[15] = f[15]! | 3;
      let sum = (~v.getUint16(24) & 0xffff) + (~before & 0xffff) + v.getUint16(14);
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      v.setUint16(24, ~sum & 0xffff);
      bench.put(f, RowState.RECEIVED);
    }
    const b = path(nodeEngine, bench);
    b.addInbound(t.in);
    b.inbound(bench.burst);
    expect(bench.fates()).toEqual([DropReason.ECN, 0, 0, 0]);
    for (const i of [1, 2, 3]) {
      expect(bench.bytes(i)[1]! & 3).toBe(3);
      const p = bench.bytes(i);
      let sum = 0;
      for (let k = 0; k < 20; k += 2) sum += (p[k]! << 8) | p[k + 1]!;
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      expect(sum).toBe(0xffff);
    }
  });

  it('drops what is too big, what no policy matches, what is no IP packet, and what finds its numbers used up', () => {
    const t = tickets({});
    const bench = new Bench();
    const a = path(nodeEngine, bench);
    a.addOutbound(t.out);
    const [v4] = protect(0) as [PolicyTicket];
    a.setPolicies([{ ...v4, source: hex('0a010001'), sourceBits: 32 }]);
    // Total lengths of less than the header and of more than there is.
    const wrong = [19, 61].map((length) => {
      const packet = ipv4(60);
      packet[3] = length;
      return packet;
    });
    for (const p of [ipv4(1480), ipv4(60, 9), new Uint8Array(40), ...wrong, ipv4(60)]) bench.put(p);
    a.outbound(bench.burst);
    const { TOO_BIG, POLICY, BAD_INNER } = DropReason;
    expect(bench.fates()).toEqual([TOO_BIG, POLICY, BAD_INNER, BAD_INNER, BAD_INNER, 0]);
    expect(t.allocator.next()).toBe(2);
    bench.clear();
    t.allocator.advanceTo(t.allocator.limit);
    for (let i = 0; i < 3; i++) bench.put(ipv4(60));
    a.outbound(bench.burst);
    expect(bench.fates()).toEqual([0, DropReason.EXHAUSTED, DropReason.EXHAUSTED]);
  });

  it('lets a bypassed packet out in the clear, marked as such, and discards by policy', () => {
    const bench = new Bench();
    const a = path(nodeEngine, bench);
    const [v4] = protect(0) as [PolicyTicket];
    a.setPolicies([
      { ...v4, source: hex('0a010001'), sourceBits: 32, action: 'bypass', slot: -1 },
      { ...v4, action: 'discard', slot: -1 },
    ]);
    bench.put(ipv4(60));
    bench.put(ipv4(60, 2));
    a.outbound(bench.burst);
    expect(bench.fates()).toEqual([0, DropReason.POLICY]);
    expect(bench.at(0, Row.STATE)).toBe(RowState.CLEAR);
    expect(toHex(bench.bytes(0).slice(0, 14))).toBe('02000000000b02000000000a0800');
  });

  it('refuses a packet outside its selectors, a fragment, and UDP where the SA has none', () => {
    const t = tickets({});
    const bench = new Bench();
    const a = path(nodeEngine, bench);
    a.addOutbound(t.out);
    a.setPolicies(protect(0));
    bench.put(ipv4(60, 1));
    bench.put(ipv4(60, 2));
    a.outbound(bench.burst);
    const frames = [bench.bytes(0), bench.bytes(1)];
    bench.clear();
    const b = path(nodeEngine, bench);
    b.addInbound({
      ...t.in,
      encap: null,
      selectors: [{ source: hex('0a010001'), sourceBits: 32, destination: hex('0a020000'), destinationBits: 16 }],
    });
    for (const f of frames) bench.put(f, RowState.RECEIVED);
    const fragment = frames[0]!.slice();
    fragment[14 + 6] = 0x20;
    fragment[14 + 10] = 0;
    fragment[14 + 11] = 0;
    let sum = 0;
    for (let k = 14; k < 34; k += 2) sum += (fragment[k]! << 8) | fragment[k + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    fragment[14 + 10] = (~sum >> 8) & 0xff;
    fragment[14 + 11] = ~sum & 0xff;
    bench.put(fragment, RowState.RECEIVED);
    b.inbound(bench.burst);
    expect(bench.fates()).toEqual([0, DropReason.SELECTOR, DropReason.FRAGMENT]);
  });

  it('accepts rows that a lower opened, by the number the lower verified with, and never rows it found bad', () => {
    const t = tickets({ esn: true });
    const bench = new Bench();
    const a = path(nodeEngine, bench);
    a.addOutbound(t.out);
    a.setPolicies(protect(0));
    for (let i = 0; i < 3; i++) bench.put(ipv4(60 + i));
    a.outbound(bench.burst);
    const frames = [0, 1, 2].map((i) => bench.bytes(i));
    bench.clear();
    const engine = nodeEngine();
    const key = engine.install('aes128gcm16', SaKey.attach(t.in.key), { esn: true });
    frames[2]![80] = frames[2]![80]! ^ 1;
    for (const f of frames) {
      const r = bench.put(f, RowState.RECEIVED);
      const rows = bench.slab.rows;
      rows[r + Row.ESP] = rows[r + Row.START]! + 34;
      rows[r + Row.SEQ_LO] = bench.slab.view.getInt32(rows[r + Row.ESP]! + 4);
      rows[r + Row.SEQ_HI] = 0;
      rows[r + Row.KEY] = key;
    }
    engine.open(bench.burst);
    const b = path(nodeEngine, bench);
    b.addInbound(t.in);
    b.inbound(bench.burst);
    expect(bench.fates()).toEqual([0, 0, DropReason.ICV]);
    expect(b.stats[3]).toBe(0);
    expect(t.window.top()).toBe(2);
  });
});

describe('rows and verdicts', () => {
  it('have the same numbers in replay, wire and the drop table', async () => {
    const { Column } = await import('../../replay/src/layout.ts');
    expect(Column).toEqual({
      WORDS: Row.WORDS,
      START: Row.START,
      END: Row.END,
      SEQ_LO: Row.SEQ_LO,
      SEQ_HI: Row.SEQ_HI,
      FATE: Row.FATE,
    });
    expect(Verdict).toEqual({
      ACCEPT: DropReason.NONE,
      REPLAYED: DropReason.REPLAYED,
      STALE: DropReason.STALE,
      INVALID: DropReason.INVALID,
      EXHAUSTED: DropReason.EXHAUSTED,
    });
  });
});
