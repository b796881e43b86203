import { describe, expect, it } from 'vitest';
import { SequenceAllocator } from '../src/index.ts';

describe('the sequence allocator', () => {
  it('begins with 1 and gives consecutive runs', () => {
    const a = SequenceAllocator.create({ esn: false });
    expect([a.reserve(3), a.granted, a.reserve(2), a.granted, a.next()]).toEqual([1, 3, 4, 2, 6]);
  });

  it('grants what is left at the limit and then nothing, for good', () => {
    const a = SequenceAllocator.create({ esn: false, limit: 10 });
    a.reserve(8);
    expect([a.reserve(5), a.granted]).toEqual([9, 2]);
    for (let i = 0; i < 3; i++) expect([a.reserve(1), a.granted]).toEqual([0, 0]);
  });

  it('hands out 2^32 - 1 last without ESN and goes on with it', () => {
    const plain = SequenceAllocator.create({ esn: false });
    plain.advanceTo(2 ** 32 - 1);
    expect([plain.reserve(4), plain.granted, plain.reserve(1)]).toEqual([2 ** 32 - 1, 1, 0]);
    const esn = SequenceAllocator.create({ esn: true });
    esn.advanceTo(2 ** 32 - 1);
    expect([esn.reserve(4), esn.granted]).toEqual([2 ** 32 - 1, 4]);
  });

  it('only ever jumps forward', () => {
    const a = SequenceAllocator.create({ esn: true });
    expect(a.advanceTo(100)).toBe(true);
    expect(a.advanceTo(50)).toBe(false);
    expect(a.reserve(1)).toBe(100);
    expect(() => a.advanceTo(0)).toThrow(RangeError);
  });

  it('is one counter for all who attach, and refuses other memory', () => {
    const a = SequenceAllocator.create({ esn: true });
    const b = SequenceAllocator.attach(a.memory, a.offset);
    expect([a.reserve(2), b.reserve(2), a.reserve(1)]).toEqual([1, 3, 5]);
    expect(() => SequenceAllocator.attach(new SharedArrayBuffer(256), 0)).toThrow(RangeError);
  });
});

describe('a marked allocator', () => {
  it('hands out nothing before a mark is durable, and nothing beyond it', () => {
    const a = SequenceAllocator.create({ esn: true, marked: true });
    expect([a.reserve(4), a.granted, a.left()]).toEqual([0, 0, 0]);
    const mark = a.mark(10);
    expect([mark, a.reserve(1)]).toEqual([10, 0]);
    a.persisted(mark);
    expect([a.reserve(8), a.reserve(8), a.granted, a.reserve(1), a.exhausted()]).toEqual([1, 9, 2, 0, false]);
    a.persisted(a.mark(5));
    expect([a.reserve(8), a.granted]).toEqual([11, 5]);
  });

  it('never gives a number again after a restart from the last durable mark, wherever the crash was', () => {
    const used = new Set<number>();
    let durable = 0;
    let x = 1;
    const next = (n: number): number => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) % n;
    for (let life = 0; life < 300; life++) {
      const a = SequenceAllocator.create({ esn: true, marked: true });
      a.advanceTo(durable + 1);
      for (let step = next(12); step > 0; step--) {
        const mark = a.mark(1 + next(40));
        durable = Math.max(durable, mark);
        if (next(5) === 0) break; // The crash falls between the disk and the memory.
        a.persisted(mark);
        const first = a.reserve(1 + next(50));
        for (let i = 0; i < a.granted; i++) {
          expect(used.has(first + i)).toBe(false);
          used.add(first + i);
        }
      }
    }
    expect(used.size).toBeGreaterThan(1000);
  });

  it('raises a mark only', () => {
    const a = SequenceAllocator.create({ esn: false, marked: true, limit: 100 });
    a.persisted(50);
    a.persisted(20);
    expect([a.left(), a.mark(1000)]).toEqual([50, 100]);
    expect(() => a.persisted(101)).toThrow(RangeError);
    expect(() => a.mark(0)).toThrow(RangeError);
  });

  it('keeps the heap flat over a million bursts', () => {
    const a = SequenceAllocator.create({ esn: true });
    for (let i = 0; i < 100_000; i++) a.reserve(32);
    (globalThis as { gc?: () => void }).gc?.();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 1_000_000; i++) a.reserve(32);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(32 << 20);
  });
});
