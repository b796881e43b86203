import { describe, expect, it } from 'vitest';
import { Blocks, Entry } from '../src/blocks.ts';

describe('the blocks of a burst', () => {
  it('are found again by both halves of their numbers, those of other bursts are not', () => {
    const blocks = new Blocks();
    blocks.begin(2);
    expect(blocks.find(0, 7)).toBe(-1);
    const entry = blocks.add(0, 7, 100, 3, (3 << 8) | 0b101);
    expect(blocks.find(0, 7)).toBe(entry);
    expect(blocks.find(1, 7)).toBe(-1);
    expect(blocks.table[entry | Entry.TAKEN]).toBe(0b101);
    blocks.begin(2);
    expect(blocks.find(0, 7)).toBe(-1);
  });

  it('keep what they ask for when the table grows', () => {
    const blocks = new Blocks();
    blocks.begin(1);
    for (let block = 0; block < 1000; block++) {
      blocks.reserve(1);
      expect(blocks.find(0, block * 64)).toBe(-1);
      const entry = blocks.add(0, block * 64, block, 1, 0);
      blocks.table[entry | Entry.MASK] = block;
    }
    for (let block = 0; block < 1000; block++) {
      const entry = blocks.find(0, block * 64);
      expect(blocks.table[entry | Entry.MASK]).toBe(block);
      expect(blocks.order[block]).toBe(entry);
    }
  });

  it('are not taken for those of a burst that had the same name 2^32 bursts ago', () => {
    const blocks = new Blocks(-2);
    blocks.begin(1);
    blocks.find(0, 7);
    blocks.add(0, 7, 100, 3, 0);
    for (const more of [1, 1, 500]) {
      blocks.begin(more);
      expect(blocks.find(0, 0)).toBe(-1);
      expect(blocks.find(0, 7)).toBe(-1);
    }
    const old = new Blocks(1);
    old.begin(1);
    old.find(0, 9);
    old.add(0, 9, 100, 3, 0);
    const name = old.table[old.order[0]!]!;
    expect(name).toBe(2);
    // The round ends, and the name comes again.
    const again = new Blocks(-1);
    again.table.set(old.table);
    again.begin(1);
    again.begin(1);
    expect(again.find(0, 9)).toBe(-1);
  });
});
