// Bursts longer than the path was made for.
import { Row, RowState } from '@espalier/wire';
import { DROP_CODES, DropReason, settle } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { SaStat } from '../src/index.ts';
import { ipv4, toHex } from './bench-rows.ts';
import { LINK, protect, rig, send } from './rig.ts';

const CAPACITY = 4;
const { NO_ROOM } = DropReason;

describe('a burst longer than the capacity', () => {
  it('leaves as far as there is room; the rest is counted, its frames untouched, no number and no header spent', () => {
    const r = rig({}, {}, { capacity: CAPACITY });
    const { bench } = r;
    for (let i = 0; i < 7; i++) bench.put(ipv4(60 + i));
    // One that ended before keeps its reason.
    bench.slab.rows[bench.burst.list[6]! * Row.WORDS + Row.FATE] = DropReason.TTL;
    // What a frame was before is no SA of this packet's.
    bench.slab.rows[bench.burst.list[5]! * Row.WORDS + Row.SA] = 3;
    const before = bench.slab.bytes.slice(bench.burst.list[4]! * bench.slab.frameSize);
    r.a.outbound(bench.burst);
    expect(bench.fates()).toEqual([0, 0, 0, 0, NO_ROOM, NO_ROOM, DropReason.TTL]);
    expect([0, 1, 2, 3].map((i) => bench.at(i, Row.STATE))).toEqual(new Array(4).fill(RowState.SEALED));
    for (const i of [4, 5, 6]) expect(bench.at(i, Row.STATE)).toBe(RowState.UNSET);
    expect(bench.slab.bytes.subarray(bench.burst.list[4]! * bench.slab.frameSize)).toEqual(before);
    expect(r.allocator.next()).toBe(1 + CAPACITY);
    expect(r.a.stats[3 * SaStat.COLUMNS + SaStat.PACKETS]).toBe(CAPACITY);
    const drops = new Float64Array(DROP_CODES);
    r.a.countUnsent(bench.burst);
    settle(bench.burst, bench.pool, drops);
    expect([drops[NO_ROOM], drops[DropReason.TTL]]).toEqual([2, 1]);
  });

  it('has nothing beyond it let out in the clear', () => {
    const r = rig({}, {}, { capacity: CAPACITY, link: LINK });
    r.a.setPolicies(protect(3).map((policy) => ({ ...policy, action: 'bypass', slot: undefined }) as never));
    for (let i = 0; i < 6; i++) r.bench.put(ipv4(60));
    r.a.outbound(r.bench.burst);
    expect(r.bench.fates()).toEqual([0, 0, 0, 0, NO_ROOM, NO_ROOM]);
    expect([3, 4, 5].map((i) => r.bench.at(i, Row.STATE))).toEqual([RowState.CLEAR, RowState.UNSET, RowState.UNSET]);
  });

  it('arrives as far as there is room; the rest is counted and stays ciphertext', () => {
    const from = rig();
    const frames = send(from, ...Array.from({ length: 7 }, (_, i) => ipv4(60 + i)));
    const r = rig({}, {}, { capacity: CAPACITY });
    const { bench } = r;
    for (const frame of frames) bench.put(frame, RowState.RECEIVED);
    r.b.inbound(bench.burst);
    expect(bench.fates()).toEqual([0, 0, 0, 0, NO_ROOM, NO_ROOM, NO_ROOM]);
    expect([0, 1, 2, 3].map((i) => toHex(bench.bytes(i)))).toEqual([0, 1, 2, 3].map((i) => toHex(ipv4(60 + i))));
    for (const i of [4, 5, 6]) {
      expect(bench.bytes(i)).toEqual(frames[i]);
      expect(bench.at(i, Row.STATE)).toBe(RowState.RECEIVED);
    }
    // Their numbers are not taken: they may come again.
    bench.clear();
    for (const frame of frames.slice(4)) bench.put(frame, RowState.RECEIVED);
    r.b.inbound(bench.burst);
    expect(bench.fates()).toEqual([0, 0, 0]);
  });

  it('may end with a dummy packet', () => {
    const r = rig({ link: null }, {}, { capacity: CAPACITY, linkType: 'esp-udp' });
    for (let i = 0; i < CAPACITY; i++) r.bench.put(ipv4(60));
    r.a.outbound(r.bench.burst);
    r.a.dummy(3, r.bench.burst, r.bench.pool.take(), 40);
    expect(r.bench.at(CAPACITY, Row.FATE)).toBe(0);
    expect(r.bench.at(CAPACITY, Row.STATE)).toBe(RowState.SEALED);
    // Stripped like the others: the socket puts IP and UDP in front.
    expect(r.bench.at(CAPACITY, Row.START)).toBe(r.bench.at(CAPACITY, Row.ESP));
  });
});
