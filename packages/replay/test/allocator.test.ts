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
