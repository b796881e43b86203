// What an SA's packets end of, wherever they end. Budget: 1 s.
import { Lifetime } from '@espalier/replay';
import { Row } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { type EspPath, SaStat } from '../src/index.ts';
import { ipv4, ipv6, toHex } from './bench-rows.ts';
import { NAT_T, protect, receive, rig, send, V4, V6 } from './rig.ts';

const counted = (path: EspPath, reason: DropReason): number => path.stats[3 * SaStat.COLUMNS + SaStat.DROPS + reason]!;
const dropped = (path: EspPath): number => path.stats[3 * SaStat.COLUMNS + SaStat.DROPPED]!;

describe('the counters of an SA', () => {
  it('have what a lower or a full ring did not take, on the way out and in, and nothing twice', () => {
    const r = rig();
    const { rows } = r.bench.slab;
    const refuse = (i: number, reason: DropReason): void => {
      rows[r.bench.burst.list[i]! * Row.WORDS + Row.FATE] = reason;
    };
    const frames = send(r, ipv4(60), ipv4(1490), ipv4(60), ipv4(60));
    refuse(2, DropReason.NO_LOWER_HANDLE);
    refuse(3, DropReason.NO_ROOM);
    r.a.countUnsent(r.bench.burst);
    expect(counted(r.a, DropReason.TOO_BIG)).toBe(1);
    expect(counted(r.a, DropReason.NO_LOWER_HANDLE)).toBe(1);
    expect(counted(r.a, DropReason.NO_ROOM)).toBe(1);
    expect(dropped(r.a)).toBe(3);
    receive(r, frames[0]!, frames[0]!, frames[2]!, frames[3]!);
    refuse(2, DropReason.LINK_DOWN);
    r.b.countUnsent(r.bench.burst);
    expect(counted(r.b, DropReason.REPLAYED)).toBe(1);
    expect(counted(r.b, DropReason.LINK_DOWN)).toBe(1);
    expect(dropped(r.b)).toBe(2);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.PACKETS]).toBe(3);
  });

  it('tell the reasons of one burst apart', () => {
    const r = rig();
    const frames = send(r, ipv4(60), ipv4(61), ipv4(62), ipv4(63));
    receive(r, frames[0]!);
    const forged = frames.map((frame) => frame.map((byte, i) => (i === frame.length - 1 ? byte ^ 1 : byte)));
    const burst = [forged[1]!, forged[2]!, frames[0]!, frames[1]!, forged[3]!, frames[0]!];
    expect(receive(r, ...burst).map((end) => (end.length > 10 ? '' : end))).toEqual([
      ...['ICV', 'ICV', 'REPLAYED'],
      ...['', 'ICV', 'REPLAYED'],
    ]);
    expect([counted(r.b, DropReason.ICV), counted(r.b, DropReason.REPLAYED), dropped(r.b)]).toEqual([3, 2, 5]);
    expect(receive(r, frames[0]!, frames[1]!)).toEqual(['REPLAYED', 'REPLAYED']);
    expect([counted(r.b, DropReason.ICV), counted(r.b, DropReason.REPLAYED), dropped(r.b)]).toEqual([3, 4, 7]);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.SOFTWARE]).toBe(5);
  });

  it('are its own where packets of two SAs come in turns, without the bytes that its lifetime refused', () => {
    const lifetime = Lifetime.create({ hardPackets: 3, quotaPackets: 0 });
    const place = { memory: lifetime.memory, offset: lifetime.offset };
    const r = rig({}, { lifetime: place });
    const udp = { slot: 5, spi: 0x1002, encap: NAT_T };
    const other = rig(udp, udp);
    r.a.addOutbound(other.outbound);
    r.b.addInbound(other.inbound);
    r.a.setPolicies([protect(3)[0]!, protect(5)[1]!]);
    const packets = [ipv4(60), ipv6(61), ipv4(62), ipv6(63), ipv4(64), ipv6(65), ipv4(66)];
    const frames = send(r, ...packets);
    const sums = (path: EspPath): number[] =>
      [3, 5].flatMap((slot) =>
        [SaStat.PACKETS, SaStat.BYTES, SaStat.DROPPED].map((column) => path.stats[slot * SaStat.COLUMNS + column]!),
      );
    expect(sums(r.a)).toEqual([4, 60 + 62 + 64 + 66, 0, 3, 61 + 63 + 65, 0]);
    // What comes in UDP is looked at step by step, the other at once: either may be the first of a burst.
    const taken = [
      [0, 1],
      [3, 2],
      [4, 5, 6],
    ].map((burst) => receive(r, ...burst.map((i) => frames[i]!)));
    expect(taken.flat()).toEqual([...[0, 1, 3, 2, 4, 5].map((i) => toHex(packets[i]!)), 'LIFETIME']);
    expect(sums(r.b)).toEqual([3, 60 + 62 + 64, 1, 3, 61 + 63 + 65, 0]);
  });

  it('have dummies that could not be sent', () => {
    const r = rig();
    r.allocator.advanceTo(r.allocator.limit);
    for (let i = 0; i < 3; i++) {
      r.bench.clear();
      r.a.dummy(3, r.bench.burst, r.bench.pool.take(), 40);
      r.a.countUnsent(r.bench.burst);
    }
    expect(counted(r.a, DropReason.EXHAUSTED)).toBe(2);
    expect(dropped(r.a)).toBe(2);
  });

  it('have packets of the other family that a policy sends to an SA in transport mode', () => {
    for (const [outer, packet] of [
      [V6, ipv4(60)],
      [V4, ipv6(60)],
    ] as const) {
      const r = rig({ mode: 'transport', ...outer }, { mode: 'transport', ...outer });
      send(r, packet);
      expect(r.bench.fates()).toEqual([DropReason.BAD_STATE]);
      expect(counted(r.a, DropReason.BAD_STATE)).toBe(1);
      // No number was taken for it.
      expect(r.allocator.next()).toBe(1);
    }
  });
});
