import { describe, expect, it } from 'vitest';
import { Lifetime, LifetimeEvent } from '../src/index.ts';
import { Column } from '../src/layout.ts';

/** Rows of given lengths in bytes. */
function burst(lengths: readonly number[]): [Int32Array, Int32Array, number, number] {
  const rows = new Int32Array(lengths.length * Column.WORDS);
  for (const [i, length] of lengths.entries()) {
    rows[i * Column.WORDS + Column.START] = 100;
    rows[i * Column.WORDS + Column.END] = 100 + length;
  }
  return [rows, Int32Array.from(lengths.keys()), 0, lengths.length];
}

describe('a lifetime', () => {
  it('without limits grants all and counts nothing', () => {
    const life = Lifetime.create();
    expect(life.grant(...burst([1400, 1400]))).toBe(2);
    expect([life.packets(), life.bytes(), life.events()]).toEqual([0, 0, 0]);
  });

  it('grants a prefix at the hard limit, then nothing to anybody, for good', () => {
    const a = Lifetime.create({ hardPackets: 10, quotaPackets: 2 });
    const b = Lifetime.attach(a.memory, a.offset);
    expect(b.grant(...burst([60]))).toBe(1);
    expect(a.grant(...burst(Array(12).fill(60)))).toBe(7);
    // b still holds a quota of two; the end is the end for all.
    expect([b.grant(...burst([60])), a.grant(...burst([60])), b.spent()]).toEqual([0, 0, true]);
  });

  it('counts bytes by what the rows hold, and stops at the packet that no longer fits', () => {
    const life = Lifetime.create({ hardBytes: 5000, quotaBytes: 100 });
    expect(life.grant(...burst([1400, 1400]))).toBe(2);
    expect(life.grant(...burst([1400, 1400, 20]))).toBe(1);
    expect(life.grant(...burst([20]))).toBe(0);
    expect(life.bytes()).toBeLessThanOrEqual(5000);
  });

  it('never overshoots, and falls short by at most workers x quota and one packet', () => {
    let x = 7;
    const next = (n: number): number => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) % n;
    for (let round = 0; round < 200; round++) {
      const hardBytes = 20_000 + next(100_000);
      const hardPackets = 50 + next(400);
      const first = Lifetime.create({ hardBytes, hardPackets });
      const workers = [first, ...[1, 2, 3].map(() => Lifetime.attach(first.memory, first.offset))];
      let bytes = 0;
      let packets = 0;
      let short = false;
      for (let i = 0; i < 400; i++) {
        const lengths = Array.from({ length: 1 + next(32) }, () => 40 + next(1461));
        const granted = workers[next(4)]!.grant(...burst(lengths));
        if (short) expect(granted).toBe(0);
        if (granted < lengths.length) short = true;
        packets += granted;
        for (let j = 0; j < granted; j++) bytes += lengths[j]!;
      }
      expect(short).toBe(true);
      expect(bytes).toBeLessThanOrEqual(hardBytes);
      expect(packets).toBeLessThanOrEqual(hardPackets);
      expect(bytes > hardBytes - 4 * 4000 - 1500 || packets >= hardPackets - 4 * 64).toBe(true);
    }
  });

  it('tells each event once, whoever asks', () => {
    const a = Lifetime.create({ softPackets: 100, hardPackets: 200, quotaPackets: 0 });
    const b = Lifetime.attach(a.memory, a.offset);
    a.grant(...burst(Array(99).fill(60)));
    expect(a.events()).toBe(0);
    b.grant(...burst([60]));
    expect([a.events(), b.events(), a.events()]).toEqual([LifetimeEvent.SOFT, 0, 0]);
    b.grant(...burst(Array(100).fill(60)));
    expect(b.events()).toBe(0);
    a.grant(...burst([60]));
    expect([b.events(), a.events(), b.events()]).toEqual([LifetimeEvent.HARD, 0, 0]);
  });

  it('tells of both at once when a single burst passes both', () => {
    const life = Lifetime.create({ softBytes: 1, hardBytes: 1000 });
    life.grant(...burst([2000]));
    expect([life.events(), life.events()]).toEqual([LifetimeEvent.SOFT | LifetimeEvent.HARD, 0]);
  });

  it('is ended from outside for all at once, with limits of its own or without, and told of once', () => {
    for (const limits of [{}, { softPackets: 50, hardPackets: 1000 }]) {
      const a = Lifetime.create(limits);
      const b = Lifetime.attach(a.memory, a.offset);
      a.expire(LifetimeEvent.SOFT);
      expect([b.events(), a.events(), b.grant(...burst([60, 60]))]).toEqual([LifetimeEvent.SOFT, 0, 2]);
      b.expire(LifetimeEvent.HARD);
      b.expire(LifetimeEvent.HARD);
      expect([a.grant(...burst([60])), b.grant(...burst([60])), a.spent()]).toEqual([0, 0, true]);
      expect([a.events(), b.events()]).toEqual([LifetimeEvent.HARD, 0]);
    }
  });

  it('refuses limits that are none and memory that holds something else', () => {
    expect(() => Lifetime.create({ hardPackets: 0 })).toThrow(RangeError);
    expect(() => Lifetime.create({ quotaBytes: -1 })).toThrow(RangeError);
    expect(() => Lifetime.attach(new SharedArrayBuffer(256), 0)).toThrow(RangeError);
    expect(() => Lifetime.attach(new SharedArrayBuffer(64), 0)).toThrow(RangeError);
  });
});
