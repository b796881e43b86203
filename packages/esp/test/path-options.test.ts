import { SequenceAllocator } from '@espalier/replay';
import { checksum, pseudoHeaderIpv4, pseudoHeaderIpv6, Row, RowState, writeTooBig } from '@espalier/wire';
import { DropReason, dropName, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { AuditRing, type OutboundTicket, PathMtu, SaStat } from '../src/index.ts';
import { ECN_DECAP } from '../src/tunnel.ts';
import { hex, ipv4, ipv6, toHex } from './bench-rows.ts';
import { LINK, NAT_T, receive, rig, send, V4, V6, viewOf } from './rig.ts';

/** An IPv4 packet with the ports and a right UDP checksum. */
function udp4(length: number): Uint8Array {
  const p = ipv4(length);
  const v = viewOf(p);
  v.setUint16(24, length - 20);
  v.setUint16(26, 0);
  v.setUint16(26, checksum(v, 20, length, pseudoHeaderIpv4(v, 0, 17, length - 20)));
  return p;
}

describe('transport mode', () => {
  it('carries packets with IPv4 options and gives them back byte for byte, TTL and all', () => {
    const r = rig({ mode: 'transport' }, { mode: 'transport' });
    const plain = ipv4(100);
    const optioned = new Uint8Array(68);
    optioned.set(ipv4(60).subarray(0, 20));
    optioned.set([1, 1, 1, 1, 1, 1, 1, 0], 20);
    optioned[0] = 0x47;
    viewOf(optioned).setUint16(2, 68);
    viewOf(optioned).setUint16(10, 0);
    for (const p of [plain, optioned]) {
      p.set(V4.source, 12);
      p.set(V4.destination, 16);
      viewOf(p).setUint16(10, 0);
      viewOf(p).setUint16(10, checksum(viewOf(p), 0, (p[0]! & 15) * 4));
    }
    const frames = send(r, plain, optioned);
    // ESP stands behind the options.
    expect(frames[1]![14]).toBe(0x47);
    expect(frames[1]![23]).toBe(50);
    expect(viewOf(frames[1]!).getUint32(14 + 28)).toBe(0x1001);
    expect(receive(r, ...frames)).toEqual([toHex(plain), toHex(optioned)]);
  });

  it('goes behind hop-by-hop and routing headers and in front of destination options', () => {
    const r = rig({ mode: 'transport', ...V6 }, { mode: 'transport', ...V6 });
    const p = new Uint8Array(40 + 8 + 8 + 20);
    p.set(ipv6(40));
    p.set(V6.source, 8);
    p.set(V6.destination, 24);
    viewOf(p).setUint16(4, p.length - 40);
    p[6] = 0;
    p.set([60, 0, 1, 4, 0, 0, 0, 0], 40);
    p.set([17, 0, 1, 4, 0, 0, 0, 0], 48);
    const [frame] = send(r, p);
    expect(frame![14 + 40]).toBe(50);
    expect(viewOf(frame!).getUint32(14 + 48)).toBe(0x1001);
    expect(receive(r, frame!)).toEqual([toHex(p)]);
  });

  it('takes whole datagrams only, and IP inside only where a selector asks for it', () => {
    const r = rig({ mode: 'transport' }, { mode: 'transport' });
    const fragment = ipv4(60);
    fragment[6] = 0x20;
    send(r, fragment);
    expect(r.bench.fates()).toEqual([DropReason.FRAGMENT]);
    const ipip = ipv4(60);
    ipip.set(V4.source, 12);
    ipip.set(V4.destination, 16);
    ipip[9] = 4;
    const [frame] = send(r, ipip);
    expect(receive(r, frame!)).toEqual(['BAD_NEXT_HEADER']);
  });

  it('mends the checksum under a NAT, with the peer’s own addresses and without them', () => {
    const inside = { source: hex('0a000001'), destination: hex('c0000202') };
    for (const original of [inside, undefined]) {
      const r = rig(
        { mode: 'transport', ...inside, encap: NAT_T },
        { mode: 'transport', encap: NAT_T, ...(original ? { original } : {}) },
      );
      const p = udp4(60);
      p.set(inside.source, 12);
      p.set(inside.destination, 16);
      viewOf(p).setUint16(26, 0);
      viewOf(p).setUint16(26, checksum(viewOf(p), 20, 60, pseudoHeaderIpv4(viewOf(p), 0, 17, 40)));
      const [frame] = send(r, p);
      // The NAT puts its own address and port there.
      frame!.set(V4.source, 14 + 12);
      viewOf(frame!).setUint16(14 + 20, 61_000);
      viewOf(frame!).setUint16(14 + 10, 0);
      viewOf(frame!).setUint16(14 + 10, checksum(viewOf(frame!), 14, 34));
      const got = hex(receive(r, frame!)[0]!);
      expect(checksum(viewOf(got), 20, 60, pseudoHeaderIpv4(viewOf(got), 0, 17, 40))).toBe(0);
    }
  });
});

describe('the outer header', () => {
  it('has DSCP copied, set or mapped, ECN copied or not, TTL, DF and flow label as asked', () => {
    const outer = (options: Partial<OutboundTicket>, packet: Uint8Array): Uint8Array =>
      send(rig(options), packet)[0]!.slice(14);
    const p = ipv4(60, 1, 0xba);
    expect(outer({}, p)[1]).toBe(0xba);
    expect(outer({ dscp: 10 }, p)[1]).toBe((10 << 2) | 2);
    expect(outer({ dscp: Array.from({ length: 64 }, (_, i) => 63 - i), ecn: 'compatibility' }, p)[1]).toBe(
      (63 - 0x2e) << 2,
    );
    expect(outer({ ttl: 9 }, p)[8]).toBe(9);
    expect(outer({ ttl: 'copy' }, p)[8]).toBe(64);
    expect(outer({ df: 'clear' }, p)[6]).toBe(0);
    expect(outer({ df: 'set' }, ipv6(60))[6]).toBe(0x40);
    expect(outer({}, ipv6(60))[6]).toBe(0x40);
    const six = ipv6(60);
    six[3] = 0x77;
    expect(viewOf(outer({ ...V6, flowLabel: 'copy' }, six)).getUint32(0) & 0xf_ffff).toBe(0x77);
    expect(viewOf(outer({ ...V6, flowLabel: 5 }, six)).getUint32(0) & 0xf_ffff).toBe(5);
    expect(viewOf(outer({ ...V6, flowLabel: 'flow' }, six)).getUint32(0) & 0xf_ffff).not.toBe(0);
    // Every one has a right checksum.
    for (const o of [{}, { dscp: 10 }, { ttl: 'copy' }, { df: 'set' }] as const)
      expect(checksum(viewOf(outer(o, p)), 0, 20)).toBe(0);
  });

  it('counts the inner TTL down where nothing has, and drops what has none left', () => {
    const r = rig({ decrementTtl: true });
    const last = ipv4(60);
    last[8] = 1;
    const frames = send(r, ipv4(60), last);
    expect(r.bench.fates()).toEqual([0, DropReason.TTL]);
    const got = hex(receive(r, frames[0]!)[0]!);
    expect(got[8]).toBe(63);
    expect(checksum(viewOf(got), 0, 20)).toBe(0);
  });

  it('brings ECN back by the table of RFC 6040, all sixteen cells', () => {
    const [NOT, ONE, ZERO, CE, DROP] = [0, 1, 2, 3, 4];
    expect([...ECN_DECAP]).toEqual(
      [
        [NOT, NOT, NOT, DROP],
        [ONE, ONE, ONE, CE],
        [ZERO, ONE, ZERO, CE],
        [CE, CE, CE, CE],
      ].flat(),
    );
  });

  it('has a UDP checksum over IPv6, none over IPv4, and refuses a zero one over IPv6', () => {
    const four = send(rig({ encap: NAT_T }), ipv4(60))[0]!;
    expect(viewOf(four).getUint16(14 + 26)).toBe(0);
    const r = rig({ encap: NAT_T, ...V6 }, { encap: NAT_T, ...V6 });
    const six = send(r, ipv4(60))[0]!;
    const v = viewOf(six);
    expect(v.getUint16(14 + 46)).not.toBe(0);
    expect(checksum(v, 54, six.length, pseudoHeaderIpv6(v, 14, 17, six.length - 54))).toBe(0);
    const zero = six.slice();
    viewOf(zero).setUint16(14 + 46, 0);
    expect(receive(r, zero, six)).toEqual(['BAD_OUTER', toHex(ipv4(60))]);
  });
});

describe('what is sent to hide traffic', () => {
  it('pads inner packets to a length or to the MTU, with zeros, and the receiver cuts it off', () => {
    for (const [tfc, length] of [
      [500, 14 + 20 + 8 + 8 + 504 + 16],
      ['mtu', 14 + 1500],
    ] as const) {
      const r = rig({ tfc });
      // One with options, which no short cut takes.
      const options = ipv4(80);
      options[0] = 0x47;
      viewOf(options).setUint16(10, 0);
      viewOf(options).setUint16(10, checksum(viewOf(options), 0, 28));
      const packets = [ipv4(20), ipv4(60), ipv6(100), options];
      const frames = send(r, ...packets);
      for (const f of frames) expect(Math.abs(f.length - length)).toBeLessThan(4);
      expect(new Set(frames.map((f) => f.length)).size).toBe(1);
      expect(receive(r, ...frames)).toEqual(packets.map(toHex));
    }
    expect(() => rig({ mode: 'transport', tfc: 100 })).toThrow('TFC');
  });

  it('makes dummies that look like any other packet and are counted and dropped on arrival', () => {
    const r = rig();
    r.bench.clear();
    r.a.dummy(3, r.bench.burst, r.bench.pool.take(), 100);
    expect(r.bench.at(0, Row.STATE)).toBe(RowState.SEALED);
    const dummy = r.bench.bytes(0);
    const [real] = send(r, ipv4(100));
    expect(dummy.length).toBe(real!.length);
    expect(receive(r, dummy, real!)).toEqual(['DUMMY', toHex(ipv4(100))]);
    expect(r.window.top()).toBe(2);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.DROPS + DropReason.DUMMY]).toBe(1);
  });

  it('makes NAT keepalives, in the clear, which the other side counts', () => {
    for (const family of [V4, V6]) {
      const r = rig({ encap: NAT_T, ...family }, { encap: NAT_T, ...family });
      r.bench.clear();
      r.a.keepalive(3, r.bench.burst, r.bench.pool.take());
      expect(r.bench.at(0, Row.STATE)).toBe(RowState.CLEAR);
      expect(receive(r, r.bench.bytes(0))).toEqual(['NAT_KEEPALIVE']);
    }
    const r = rig();
    expect(() => r.a.keepalive(3, r.bench.burst, 0)).toThrow('keepalive');
  });
});

describe('sizes', () => {
  it('says the largest inner packet that fits, exactly, for every kind of SA', () => {
    for (const encap of [null, NAT_T])
      for (const family of [V4, V6])
        for (const mode of ['tunnel', 'transport'] as const) {
          const r = rig({ encap, mode, ...family, mtu: 1400 });
          const most = r.a.innerMtu(3);
          const packet = family === V4 ? ipv4 : ipv6;
          send(r, packet(most), packet(most + 1));
          expect(r.bench.fates()).toEqual([0, DropReason.TOO_BIG]);
        }
  });

  it('lowers the MSS of a SYN and mends its checksum, and leaves every other packet alone', () => {
    const r = rig({ mss: 'mtu', mtu: 1000 }, { mss: 900 });
    const syn = ipv4(44);
    const v = viewOf(syn);
    syn[9] = 6;
    v.setUint16(10, 0);
    v.setUint16(10, checksum(v, 0, 20));
    syn.set([0x60, 2], 32);
    syn.set([2, 4, 1460 >> 8, 1460 & 255], 40);
    v.setUint16(36, 0);
    v.setUint16(36, checksum(v, 20, 44, pseudoHeaderIpv4(v, 0, 6, 24)));
    const [frame] = send(r, syn);
    const got = hex(receive(r, frame!)[0]!);
    expect(viewOf(got).getUint16(42)).toBe(Math.min(900, r.a.innerMtu(3) - 40));
    expect(checksum(viewOf(got), 20, 44, pseudoHeaderIpv4(viewOf(got), 0, 6, 24))).toBe(0);
    syn[33] = 16;
    expect(receive(r, send(r, syn)[0]!)).toEqual([toHex(syn)]);
  });

  it('learns a path MTU from an error that quotes what was sent lately, and from no other', () => {
    const pathMtu = PathMtu.create(8);
    const r = rig({}, {}, { pathMtu });
    const [frame] = send(r, ipv4(200));
    const error = (mtu: number, change: (quoted: Uint8Array) => void = () => {}): Uint8Array => {
      const memory = new Uint8Array(4096);
      const quoted = frame!.slice(14);
      change(quoted);
      memory.set(quoted, 2048);
      const view = viewOf(memory);
      const end = writeTooBig(memory, view, 14, 2048, 2048 + quoted.length, mtu, hex('c0000299'));
      memory.set(hex('02000000000a02000000000b0800'));
      return memory.slice(0, end);
    };
    const judge = (f: Uint8Array): string => {
      r.bench.clear();
      r.bench.put(f, RowState.RECEIVED);
      r.a.inbound(r.bench.burst);
      return dropName(r.bench.at(0, Row.FATE));
    };
    const refused: [Uint8Array, string][] = [
      [error(1400, (q) => q.set([1, 2, 3, 4], 16)), 'NOT_ESP'],
      [error(1400, (q) => q.set([9], 23)), 'NOT_ESP'],
      [error(1400, (q) => q.set([0x7f], 24)), 'OUTER_ERROR'],
      [error(575), 'OUTER_ERROR'],
      [error(1500), 'OUTER_ERROR'],
    ];
    for (const [f, fate] of refused) {
      expect(judge(f)).toBe(fate);
      expect(pathMtu.of(3)).toBe(0);
    }
    const broken = error(1400);
    broken[14 + 23] = broken[14 + 23]! ^ 1;
    expect(judge(broken)).toBe('NOT_ESP');
    const before = r.a.innerMtu(3);
    expect(judge(error(1400))).toBe('OUTER_ERROR');
    expect(pathMtu.of(3)).toBe(1400);
    expect(r.a.innerMtu(3)).toBe(before - 100);
    expect(pathMtu.age(599_000)).toBe(0);
    expect(pathMtu.age(600_000)).toBe(1);
    expect(r.a.innerMtu(3)).toBe(before);
  });

  it('learns it for ESP in UDP too, from whatever port the flow was sent, and from no quote that ends before the number', () => {
    const pathMtu = PathMtu.create(8);
    const r = rig({ encap: NAT_T, portEntropy: true }, { encap: NAT_T }, { pathMtu });
    const [frame] = send(r, ipv4(200));
    expect(viewOf(frame!).getUint16(34)).toBeGreaterThanOrEqual(49_152);
    const judge = (length: number, port: number): string => {
      const memory = new Uint8Array(4096);
      const quoted = frame!.slice(14, 14 + length);
      memory.set(quoted, 2048);
      const view = viewOf(memory);
      if (length >= 24) view.setUint16(2048 + 22, port);
      const end = writeTooBig(memory, view, 14, 2048, 2048 + quoted.length, 1400, hex('c0000299'));
      memory.set(hex('02000000000a02000000000b0800'));
      r.bench.clear();
      r.bench.put(memory.slice(0, end), RowState.RECEIVED);
      r.a.inbound(r.bench.burst);
      return dropName(r.bench.at(0, Row.FATE));
    };
    // RFC 792 asks for 8 bytes behind the IP header: they are the UDP header.
    expect(judge(28, 4500)).toBe('NOT_ESP');
    expect(judge(100, 4501)).toBe('NOT_ESP');
    expect(pathMtu.of(3)).toBe(0);
    expect(judge(100, 4500)).toBe('OUTER_ERROR');
    expect(pathMtu.of(3)).toBe(1400);
  });
});

describe('audit', () => {
  it('writes what RFC 4303 asks for, at a limited rate, and counts the rest', () => {
    const audit = AuditRing.create({ perSecond: 1, burst: 2 });
    const r = rig({}, {}, { audit });
    const [frame] = send(r, ipv4(60));
    audit.tick(1_700_000_000_123);
    receive(r, frame!, frame!, frame!, frame!);
    const events = AuditRing.attach(audit.memory).drain();
    expect(events).toHaveLength(2);
    expect(audit.suppressed).toBe(1);
    const { source, destination, ...rest } = events[0]!;
    expect(rest).toEqual({
      reason: 'REPLAYED',
      timeMs: 1_700_000_000_123,
      slot: 3,
      spi: 0x1001,
      seqLo: 1,
      seqHi: 0,
      flowLabel: 0,
    });
    expect([source, destination]).toEqual([V4.source, V4.destination]);
    receive(r, frame!);
    expect(audit.drain()).toHaveLength(0);
    audit.tick(1_700_000_001_123);
    receive(r, frame!);
    expect(audit.drain()).toHaveLength(1);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.DROPS + DropReason.REPLAYED]).toBe(5);
  });
});

describe('rekey', () => {
  it('switches outbound at once, and only to an SA that is there', () => {
    const r = rig();
    expect(() => r.a.switchOutbound(3, 5)).toThrow('no outbound SA');
    const allocator = SequenceAllocator.create({ esn: true });
    const algorithm = 'aes128gcm16';
    r.a.addOutbound({
      slot: 5,
      spi: 0x1003,
      ...V4,
      mode: 'tunnel',
      algorithm,
      icvLength: 16,
      esn: true,
      key: SaKey.import(algorithm, new Uint8Array(20).fill(9)).share(),
      encap: null,
      allocator: { memory: allocator.memory, offset: 0 },
      offload: false,
      noHandle: 'drop',
      link: LINK,
      mtu: 1500,
    });
    const spi = (): number => viewOf(send(r, ipv4(60))[0]!).getUint32(34);
    expect(spi()).toBe(0x1001);
    expect(r.a.switchOutbound(3, 5)).toBe(2);
    expect(spi()).toBe(0x1003);
  });
});
