import { SaStat } from '@espalier/esp';
import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { GATE_BLOCK, GATE_OPEN, holdBack } from '../src/gate.ts';

const SLOTS = 4;
const slab = createSlab({ frames: 8 });
const burst = createBurst(slab, 8);

/** Fates of accepted rows with these numbers of the SA in a slot. */
function fates(
  gates: Int32Array,
  slot: number,
  numbers: readonly number[],
  stats = new Float64Array(SLOTS * SaStat.COLUMNS),
): number[] {
  burst.length = 0;
  for (const [row, number] of numbers.entries()) {
    resetRow(slab.rows, row, 0, 100, RowState.OPENED);
    slab.rows[row * Row.WORDS + Row.SA] = slot;
    slab.rows[row * Row.WORDS + Row.SEQ_LO] = number | 0;
    slab.rows[row * Row.WORDS + Row.SEQ_HI] = Math.floor(number / 2 ** 32);
    burst.list[burst.length++] = row;
  }
  holdBack(burst, gates, stats);
  return numbers.map((_, row) => slab.rows[row * Row.WORDS + Row.FATE]!);
}

describe('a gate', () => {
  it('lets through what lies below it and holds back the rest, on either side of 2^32 and up to 2^40', () => {
    for (const first of [GATE_BLOCK, 2 ** 32, 2 ** 32 + GATE_BLOCK, 2 ** 40 - GATE_BLOCK]) {
      const gates = new Int32Array(SLOTS);
      gates[1] = (first / GATE_BLOCK) | 0;
      const stats = new Float64Array(SLOTS * SaStat.COLUMNS);
      const held = DropReason.EXHAUSTED;
      expect(fates(gates, 1, [1, first - 1, first, first + 1], stats)).toEqual([0, 0, held, held]);
      const at = SaStat.COLUMNS;
      expect([stats[at + SaStat.DROPPED], stats[at + SaStat.DROPS + held]]).toEqual([2, 2]);
      // Closed for an SA that has not been let in.
      expect(fates(gates, 2, [1])).toEqual([held]);
    }
  });

  it('that is open holds nothing back, and no gate is asked for a packet without an SA or with a fate', () => {
    const gates = new Int32Array(SLOTS).fill(GATE_OPEN);
    expect(fates(gates, 0, [1, 2 ** 40 - 1])).toEqual([0, 0]);
    gates.fill(0);
    expect(fates(gates, -1, [1])).toEqual([0]);
  });
});
